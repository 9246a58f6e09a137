"""Heads: the trained classifiers on embeddings. One file per head."""

from audioflow.registry import Registry

HEADS = Registry(
    "head",
    {
        "linear": "audioflow.heads.linear:Linear",
        "mlp": "audioflow.heads.mlp:Mlp",
        "multi_layer": "audioflow.heads.multi_layer:MultiLayer",
        "attention": "audioflow.heads.attention:Attention",
        "gated_attention": "audioflow.heads.gated_attention:GatedAttention",
        "short_chunk_cnn": "audioflow.heads.short_chunk_cnn:ShortChunkCnn",
        "vgg16_bn": "audioflow.heads.vgg16_bn:Vgg16Bn",
        "resnet18": "audioflow.heads.resnet18:ResNet18",
        "resnet50": "audioflow.heads.resnet50:ResNet50",
        "vggish_finetune": "audioflow.heads.vggish_finetune:VggishFinetune",
        "linear_svm": "audioflow.heads.linear_svm:LinearSvm",
        "rbf_svm": "audioflow.heads.rbf_svm:RbfSvm",
        "logistic_regression": "audioflow.heads.logistic_regression:LogisticRegression",
        "sgd": "audioflow.heads.sgd:Sgd",
        "sklearn_mlp": "audioflow.heads.sklearn_mlp:SklearnMlp",
        "knn": "audioflow.heads.knn:Knn",
    },
)
