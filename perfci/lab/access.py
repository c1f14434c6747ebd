"""How people reach the nodes that they reserved: files for ssh, Ansible and OpenStack's clients."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import yaml

from perfci.files import write_whole
from perfci.parsing import NotReadable, yaml_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Reached = Mapping[str, Mapping[str, str]]
    """For each node the variables of Ansible's connection that are set, such as ansible_host."""

SSH_CONFIG, INVENTORY, CLOUDS, OPENRC = "ssh_config", "hosts.yml", "clouds.yaml", "openrc"
CLOUD_NAME = "perfci"
"""What the cloud is called in clouds.yaml."""
_OPTIONS = {
    "ansible_port": "Port",
    "ansible_user": "User",
    "ansible_ssh_private_key_file": "IdentityFile",
}
_OPENRC = (
    ("OS_AUTH_URL", "auth_url"),
    ("OS_USERNAME", "username"),
    ("OS_PASSWORD", "password"),
    ("OS_PROJECT_NAME", "project_name"),
    ("OS_USER_DOMAIN_NAME", "user_domain_name"),
    ("OS_PROJECT_DOMAIN_NAME", "project_domain_name"),
)


def ssh_config(reached: Reached) -> str:
    """Return a file for `ssh -F`: each node by its name, reached as Ansible reaches it."""
    blocks = []
    for node, variables in sorted(reached.items()):
        lines = [f"Host {node}", f"  HostName {variables.get('ansible_host', node)}"]
        lines += [
            f"  {option} {_quoted(variables[name])}"
            for name, option in _OPTIONS.items()
            if variables.get(name)
        ]
        lines += [f"  {line}" for line in _common(variables.get("ansible_ssh_common_args", ""))]
        blocks.append("\n".join(lines))
    return "\n".join(blocks) + "\n"


def _common(text: str) -> list[str]:
    """Return options of ssh's command line as lines of its file; others are left out."""
    lines: list[str] = []
    words = iter(shlex.split(text))
    for word in words:
        if word.startswith("-o"):
            option, _, value = (word[2:] or next(words, "")).partition("=")
            lines.append(f"{option} {_quoted(value)}")
        elif word.startswith("-J"):
            lines.append(f"ProxyJump {word[2:] or next(words, '')}")
        elif word.startswith("-F"):
            _ = word[2:] or next(words, "")  # another file: this one is in its place
    return lines


def _quoted(value: str) -> str:
    return f'"{value}"' if " " in value and not value.startswith('"') else value


def inventory_document(reached: Reached, groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return an Ansible inventory of these nodes alone: in the group `nodes` and in more `groups`."""
    hosts = {node: dict(variables) for node, variables in sorted(reached.items())}
    children: dict[str, Any] = {"nodes": {"hosts": hosts}}
    children |= {name: {"hosts": {node: {} for node in some}} for name, some in sorted(groups.items())}
    return {"all": {"children": children}}


def openrc(clouds: Any) -> str:
    """Return a file to source in a shell, from what clouds.yaml holds.

    Raises NotReadable where that lacks something.
    """
    try:
        cloud = clouds["clouds"][CLOUD_NAME]
        lines = [f"export {name}={shlex.quote(str(cloud['auth'][key]))}" for name, key in _OPENRC]
        lines.append(f"export OS_REGION_NAME={shlex.quote(str(cloud['region_name']))}")
    except (LookupError, TypeError) as error:
        raise NotReadable(f"{CLOUDS} lacks something: {error}") from error
    lines.append("export OS_IDENTITY_API_VERSION=3")
    return "\n".join(lines) + "\n"


def write(
    folder: Path, reached: Reached, groups: Mapping[str, Sequence[str]], clouds: str | None
) -> dict[str, str]:
    """Write the files, which nobody else may read; return variables for a shell that say where they are.

    `clouds` is the text of clouds.yaml, None: there is no cloud. Raises OSError and NotReadable.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = yaml.safe_dump(inventory_document(reached, groups), sort_keys=False)
    files = {SSH_CONFIG: ssh_config(reached), INVENTORY: f"---\n{written}"}
    variables = {
        "PERFCI_SSH_CONFIG": str(folder / SSH_CONFIG),
        "ANSIBLE_INVENTORY": str(folder / INVENTORY),
    }
    if clouds is not None:
        files |= {CLOUDS: clouds, OPENRC: openrc(yaml_value(clouds))}
        variables |= {
            "OS_CLIENT_CONFIG_FILE": str(folder / CLOUDS),
            "OS_CLOUD": CLOUD_NAME,
            "PERFCI_OPENRC": str(folder / OPENRC),
        }
    for name, text in files.items():
        write_whole(folder / name, text, durable=False, private=True)
    return variables
