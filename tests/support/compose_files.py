"""The compose files with the defaults of their variables, and what two of them are together."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
MAIN_FILE = ROOT / "docker-compose.yml"
FOLDER = ROOT / "services" / "deploy" / "compose"
VARIANTS = ("sentinel", "cluster")
VARIABLE = re.compile(r"\$\{\w+(?::-([^}]*)|:[?+][^}]*)?\}")


def text_of(path: Path) -> str:
    """The file, with the defaults of its variables."""
    return VARIABLE.sub(lambda match: match[1] or "", path.read_text())


MAIN = yaml.safe_load(text_of(MAIN_FILE))["services"]
FILES = {name: yaml.safe_load(text_of(FOLDER / f"{name}.yml")) for name in VARIANTS}


def merged(variant: str, role: str) -> Any:
    """A service of ours, as the main file and a variant (or none) have it together."""
    main, changed = MAIN[role], FILES[variant]["services"][role] if variant else {}
    return main | {key: main.get(key, {}) | changed[key] for key in changed}
