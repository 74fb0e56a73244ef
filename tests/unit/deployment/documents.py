"""The deployment files, read, and the defaults of the settings that they are held against."""

import tomllib
from typing import Any

import pyhocon
import yaml

from compose.local import layout, procfile
from compose.local.layout import PROJECT
from tasks.settings import Settings

Document = dict[str, Any]

PROCFILE = procfile.read(layout.PROCFILE)
COMPOSE: Document = yaml.safe_load((PROJECT / "compose" / "compose.yaml").read_text())
SERVICES: Document = COMPOSE["services"]
CHART = PROJECT / "helm-values" / "sluice"
VALUES: Document = yaml.safe_load((CHART / "values.yaml").read_text())
RENDERED: list[Document] = list(yaml.safe_load_all((PROJECT / "helm-values" / "rendered.yaml").read_text()))
VECTOR: Document = tomllib.loads((PROJECT / "vector.toml").read_text())
DEFAULTS = {name: field.default for name, field in Settings.model_fields.items()}
VARIABLES = {name.upper() for name in Settings.model_fields}
_HOCON = (PROJECT / "compose" / "emqx" / "emqx.conf").read_text()
EMQX: Document = pyhocon.ConfigFactory.parse_string(_HOCON, resolve=False).as_plain_ordered_dict()
