"""Alerts about Sluice itself: Compose and the chart have the same rules and routes, and no secret."""

import copy
import json
import re
from typing import Any

import jsonschema
import pytest
import yaml

from compose.local.layout import PROJECT
from tests.unit.deployment.documents import CHART, RENDERED, SERVICES, VALUES, Document

FOLDER = PROJECT / "compose" / "observability"
RULES = FOLDER / "prometheus" / "rules" / "sluice.yml"
ROUTES: Document = yaml.safe_load((FOLDER / "alertmanager" / "alertmanager.yml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
PREFIX = "{{ $externalLabels.docs }}"


def _rendered(kind: str) -> Document:
    (found,) = [one["spec"] for one in RENDERED if one["kind"] == kind]
    spec: Document = found
    return spec


def _rules(groups: list[Document]) -> list[Document]:
    return [rule for group in groups for rule in group["rules"]]


def _headings() -> set[str]:
    text = (PROJECT / "docs" / "runbook.md").read_text()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w-]", "", one.lower().replace(" ", "-")) for one in headings}


def test_each_rule_has_a_severity_that_is_routed_and_a_link_to_its_entry() -> None:
    """Each alert says how bad it is and where to read on."""
    for rule in _rules(yaml.safe_load(RULES.read_text())["groups"]):
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert path == f"{PREFIX}docs/runbook.md", rule["alert"]
        assert anchor in _headings(), rule["alert"]


def test_what_holds_back_another_alert_and_what_is_held_back_exist() -> None:
    """A misspelt name in an inhibition would hold back nothing, without a word."""
    names = {rule["alert"] for rule in _rules(yaml.safe_load(RULES.read_text())["groups"])}
    matchers = [m for one in ROUTES["inhibit_rules"] for m in one["source_matchers"] + one["target_matchers"]]
    named = {name for matcher in matchers for name in re.findall(r"Sluice\w+", matcher)}
    assert named <= names
    assert named


def test_the_charts_rules_are_those_of_compose() -> None:
    """`helm-values/render.sh` copied them; each has the namespace that its route looks for, and a link."""
    assert (CHART / "rules" / "sluice.yml").read_text() == RULES.read_text()
    docs = _rules(_rendered("PrometheusRule")["groups"])[0]["annotations"]["runbook"].partition("docs/")[0]
    assert docs.startswith("https://")
    wanted = yaml.safe_load(RULES.read_text().replace(PREFIX, docs))["groups"]
    for rule in _rules(wanted):
        rule["labels"]["namespace"] = "sluice"
    assert _rendered("PrometheusRule")["groups"] == wanted


def test_the_charts_routes_are_those_of_compose() -> None:
    """The same times, and the same alerts held back, in the operator's words."""

    def words(name: str) -> str:
        return re.sub(r"_(\w)", lambda found: found[1].upper(), name)

    def matchers(texts: list[str]) -> list[Document]:
        found = [re.fullmatch(r'(\w+) (=~|=) "(.+)"', text) for text in texts]
        return [{"name": one[1], "matchType": one[2], "value": one[3]} for one in found if one]

    def route(one: Document) -> Document:
        changed = {words(name): value for name, value in one.items()}
        if "matchers" in changed:
            changed["matchers"] = matchers(changed["matchers"])
        if "routes" in changed:
            changed["routes"] = [route(inner) for inner in changed["routes"]]
        return changed

    spec = _rendered("AlertmanagerConfig")
    assert spec["route"] == route(ROUTES["route"])
    assert spec["inhibitRules"] == [
        {
            "sourceMatch": matchers(one["source_matchers"]),
            "targetMatch": matchers(one["target_matchers"]),
        }
        for one in ROUTES["inhibit_rules"]
    ]


def test_the_receivers_secrets_are_in_secrets() -> None:
    """The chart names keys of Secrets, Compose files of secrets that are empty until somebody fills them."""
    (receiver,) = _rendered("AlertmanagerConfig")["receivers"]
    assert receiver["name"] == ROUTES["route"]["receiver"]
    assert receiver["webhookConfigs"][0]["urlSecret"] == {"name": "sluice-alerts", "key": "url"}
    assert receiver["emailConfigs"][0]["authPassword"] == {"name": "sluice-alerts", "key": "password"}
    service = SERVICES["alertmanager"]
    assert set(service["secrets"]) == {"alertmanager_webhook_url", "alertmanager_mail_password"}
    script = (FOLDER / "alertmanager" / "start.sh").read_text()
    assert all(f"$secrets/{name}" in script for name in service["secrets"])
    assert all(f"${{{name}" in script for name in service["environment"])


def test_alertmanager_is_locked_down_and_where_prometheus_looks() -> None:
    """No root, nothing writable but its data; Prometheus sends to its port, without our own label."""
    service = SERVICES["alertmanager"]
    assert service["user"].split(":")[0] not in {"", "0", "root"}
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["profiles"] == SERVICES["prometheus"]["profiles"]
    config = yaml.safe_load((FOLDER / "prometheus" / "prometheus.yml").read_text())
    (targets,) = config["alerting"]["alertmanagers"][0]["static_configs"]
    assert targets["targets"] == ["alertmanager:9093"]
    assert config["alerting"]["alert_relabel_configs"] == [{"action": "labeldrop", "regex": "docs"}]
    assert config["global"]["external_labels"] == {"docs": "${DOCS_URL}"}
    assert "DOCS_URL" in SERVICES["prometheus"]["environment"]


def test_the_rules_know_the_processes_on_kubernetes_by_the_same_names() -> None:
    """The job of a scraped pod is its component, which is the name of the process."""
    assert _rendered("PodMonitor")["jobLabel"] == "app.kubernetes.io/component"


@pytest.mark.parametrize(
    ("mail", "taken"),
    [
        ({"to": "a@b.c"}, False),
        ({"to": "a@b.c", "from": "s@b.c", "smarthost": "mail.b.c"}, False),
        ({"to": "a@b.c", "from": "s@b.c", "smarthost": "mail.b.c:587"}, True),
        ({"to": "a@b.c", "from": "s@b.c", "smarthost": "mail.b.c:587", "username": "s"}, False),
        (
            {
                "to": "a@b.c",
                "from": "s@b.c",
                "smarthost": "mail.b.c:587",
                "username": "s",
                "passwordSecret": "p",
            },
            True,
        ),
    ],
)
def test_mail_that_is_half_set_is_refused(mail: dict[str, Any], taken: bool) -> None:
    """Helm refuses it, as the script of Compose does."""
    values = copy.deepcopy(VALUES)
    values["alerts"]["mail"] |= mail
    assert (list(jsonschema.Draft7Validator(SCHEMA).iter_errors(values)) == []) == taken
