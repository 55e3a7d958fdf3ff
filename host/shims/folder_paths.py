"""folder_paths: where inputs, results, temporary files and models are. `configure` says where, once, before use."""

import mimetypes
from pathlib import Path

base_path = ""
models_dir = ""
folder_names_and_paths: dict[str, tuple[list[str], set[str]]] = {}
_folders: dict[str, Path] = {}


def configure(base: Path) -> None:
    """Makes base/input, base/output, base/temp, base/user and base/models."""
    global base_path, models_dir
    base = base.resolve()
    base_path, models_dir = str(base), str(base / "models")
    for name in ("input", "output", "temp", "user", "models"):
        _folders[name] = base / name
        _folders[name].mkdir(parents=True, exist_ok=True)


def get_input_directory() -> str:
    return str(_folders["input"])


def get_output_directory() -> str:
    return str(_folders["output"])


def get_temp_directory() -> str:
    return str(_folders["temp"])


def get_user_directory() -> str:
    return str(_folders["user"])


def get_directory_by_type(type_name: str) -> str | None:
    return str(_folders[type_name]) if type_name in ("input", "output", "temp") else None


def confined(folder: str | Path, *parts: str) -> Path:
    """The path of parts inside folder, links followed.

    Raises:
        ValueError: it lies outside of the folder (`..`, absolute, or through a link), or no file could have this name.
    """
    root = Path(folder).resolve()
    if any("\0" in part for part in parts):
        raise ValueError("A file name cannot contain a null character")
    path = root.joinpath(*parts).resolve()
    if path != root and root not in path.parents:
        raise ValueError(f"{'/'.join(parts)!r} is outside of the folder {root.name!r}")
    return path


def get_annotated_filepath(name: str, default_dir: str | None = None) -> str:
    """Path of "name", "name [input]", "name [output]" or "name [temp]", without annotation in default_dir or input.

    Raises:
        ValueError: the name leads outside of that folder. (ComfyUI does not check this here.)
    """
    for kind in ("input", "output", "temp"):
        if name.endswith(f"[{kind}]"):
            return str(confined(_folders[kind], name.removesuffix(f"[{kind}]").rstrip()))
    return str(confined(default_dir or _folders["input"], name))


def exists_annotated_filepath(name: str) -> bool:
    try:
        return Path(get_annotated_filepath(name)).is_file()
    except ValueError:
        return False


def filter_files_content_types(files: list[str], content_types: list[str]) -> list[str]:
    """Those of the names whose ending is that of an "image", "audio" or "video"."""
    return [f for f in files if (mimetypes.guess_type(f, strict=False)[0] or "").split("/")[0] in content_types]


def get_save_image_path(
    filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
) -> tuple[str, str, int, str, str]:
    """Where the next file of this prefix goes: (folder, name, counter, subfolder, prefix); the folder is made.

    Raises:
        ValueError: the prefix leads outside of output_dir.
    """
    prefix = filename_prefix.replace("%width%", str(image_width)).replace("%height%", str(image_height))
    path = confined(output_dir, prefix)
    subfolder = path.parent.relative_to(Path(output_dir).resolve()).as_posix()
    path.parent.mkdir(parents=True, exist_ok=True)
    counter = 1 + max((_counter(f.name, path.name) for f in path.parent.iterdir()), default=0)
    return str(path.parent), path.name, counter, "" if subfolder == "." else subfolder, prefix


def _counter(file: str, prefix: str) -> int:
    """12 of "prefix_00012_.png"; 0 if the name is not of that form."""
    rest = file.removeprefix(prefix + "_")
    digits = rest.split("_")[0]
    return int(digits) if rest != file and digits.isdigit() else 0


def add_model_folder_path(folder_name: str, full_folder_path: str, is_default: bool = False) -> None:
    paths, _ = folder_names_and_paths.setdefault(folder_name, ([], set()))
    if full_folder_path not in paths:
        paths.insert(0 if is_default else len(paths), full_folder_path)


def get_folder_paths(folder_name: str) -> list[str]:
    return list(folder_names_and_paths[folder_name][0])


def get_filename_list(folder_name: str) -> list[str]:
    """Names of the model files of a kind, relative to their folders, sorted."""
    paths, extensions = folder_names_and_paths[folder_name]
    found = set()
    for folder in map(Path, paths):
        for file in folder.rglob("*") if folder.is_dir() else ():
            if file.is_file() and (not extensions or file.suffix in extensions):
                found.add(file.relative_to(folder).as_posix())
    return sorted(found)


def get_full_path(folder_name: str, filename: str) -> str | None:
    """Path of a model file, None if no folder of that kind has it.

    Raises:
        ValueError: the name leads outside of the folder.
    """
    for folder in get_folder_paths(folder_name):
        if (path := confined(folder, filename)).is_file():
            return str(path)
    return None


def get_full_path_or_raise(folder_name: str, filename: str) -> str:
    path = get_full_path(folder_name, filename)
    if path is None:
        raise FileNotFoundError(
            f"Model {filename!r} is not in any of the folders for {folder_name!r}: {get_folder_paths(folder_name)}"
        )
    return path
