"""What the tools take as RUN_DIR: the folder of a run, or the recipe that names it."""

from pathlib import Path

from audioflow.places import input_url, output_url
from audioflow.plugins import plugins
from audioflow.recipe_file import load_recipe
from audioflow.storage import Folder, is_local, local_path, path_url


def run_folder(run_dir: str) -> Folder:
    """The folder of a run, where the jobs look for it: by its path, or by its recipe.

    A relative path that is there from the current folder is taken as it is. A recipe brings the
    `storage_options` along that its folder needs; one that is not there raises `RecipeError`.
    """
    url = path_url(input_url(run_dir))
    folder = is_local(url) and Path(local_path(url)).is_dir()
    if run_dir.endswith((".yaml", ".yml")) and not folder:
        recipe = load_recipe(run_dir, [], plugins(), "manifest")
        return Folder(output_url(recipe.run_dir), recipe.storage_options)
    return Folder(url)
