"""Backbones: networks and recipes that turn patches into embeddings. One file per backbone."""

from audioflow.registry import Registry

BACKBONES = Registry(
    "backbone",
    {
        "acoustic": "audioflow.backbones.acoustic:Acoustic",
        "color": "audioflow.backbones.color:Color",
        "convnext_tiny": "audioflow.backbones.torchvision_image:ConvNextTiny",
        "edgel3": "audioflow.backbones.edgel3:EdgeL3",
        "huggingface": "audioflow.backbones.huggingface:HuggingFace",
        "image": "audioflow.backbones.torchvision_image:Image",
        "litert": "audioflow.backbones.litert:LiteRT",
        "logmel": "audioflow.backbones.logmel:LogMel",
        "mfcc_bof": "audioflow.backbones.mfcc_bof:MfccBof",
        "musicnn": "audioflow.backbones.musicnn:Musicnn",
        "mvit_v2_s": "audioflow.backbones.torchvision_video:MViTv2S",
        "onnx": "audioflow.backbones.onnx:ONNX",
        "openl3": "audioflow.backbones.openl3:OpenL3",
        "panns_cnn14": "audioflow.backbones.panns_cnn14:PannsCnn14",
        "quality": "audioflow.backbones.quality:Quality",
        "r2plus1d_18": "audioflow.backbones.torchvision_video:R2Plus1D",
        "resnet18": "audioflow.backbones.torchvision_image:ResNet18",
        "resnet50": "audioflow.backbones.torchvision_image:ResNet50",
        "s3d": "audioflow.backbones.torchvision_video:S3D",
        "soundnet": "audioflow.backbones.soundnet:SoundNet",
        "swin3d_t": "audioflow.backbones.torchvision_video:Swin3DT",
        "torchaudio": "audioflow.backbones.torchaudio_bundle:TorchaudioBundle",
        "vggish": "audioflow.backbones.vggish:VGGish",
        "video": "audioflow.backbones.torchvision_video:Video",
        "vit_b_16": "audioflow.backbones.torchvision_image:VitB16",
        "yamnet": "audioflow.backbones.yamnet:YAMNet",
    },
)
