"""A recipe that lies in a bucket is read as one on disk."""

import uuid

import pytest
import s3fs

from audioflow.errors import InputError, RecipeError
from audioflow.plugins import plugins
from audioflow.recipe_file import load_recipe
from audioflow.recipe_yaml import read_text
from audioflow.run_argument import run_folder

TEXT = """\
run_dir: s3://results/runs/birds
manifest: {reader: folder, root: /data/birds}
embed: {backbones: {acoustic: {}}}
"""


@pytest.fixture
def bucket(s3_server: str) -> str:
    """The url of a new bucket with a recipe in it."""
    name = f"recipes-{uuid.uuid4().hex[:8]}"
    store = s3fs.S3FileSystem(endpoint_url=s3_server)
    store.mkdir(name)
    store.pipe_file(f"{name}/vögel 1.yaml", ("\ufeff" + TEXT).encode())
    store.pipe_file(f"{name}/wrong.yaml", TEXT.replace("embed", "embett").encode())
    store.pipe_file(f"{name}/binary.yaml", b"\xff\xfe\x00")
    return f"s3://{name}"


def test_it_is_read_and_checked(bucket: str) -> None:
    url = f"{bucket}/vögel 1.yaml"
    recipe = load_recipe(url, ["embed.clips_per_shard=7"], plugins(), "embed")
    assert recipe.run_dir == "s3://results/runs/birds"
    assert recipe.embed is not None
    assert recipe.embed.clips_per_shard == 7
    assert read_text(url) == TEXT
    assert run_folder(url).url == "s3://results/runs/birds"


def test_its_faults_are_told_by_its_url_and_line(bucket: str) -> None:
    with pytest.raises(RecipeError, match=f"{bucket}/wrong.yaml: [\\s\\S]*wrong.yaml:3: embett"):
        load_recipe(f"{bucket}/wrong.yaml", [], plugins(), "manifest")
    with pytest.raises(RecipeError, match=r"binary.yaml: [\s\S]*cannot be read as UTF-8"):
        load_recipe(f"{bucket}/binary.yaml", [], plugins(), "manifest")


def test_one_that_is_not_there_is_told(bucket: str) -> None:
    with pytest.raises(RecipeError, match=f"{bucket}/none.yaml: [\\s\\S]*does not exist"):
        load_recipe(f"{bucket}/none.yaml", [], plugins(), "manifest")


def test_a_store_that_is_not_known_is_told() -> None:
    with pytest.raises((InputError, RecipeError), match="nosuch"):
        load_recipe("nosuch://bucket/a.yaml", [], plugins(), "manifest")
