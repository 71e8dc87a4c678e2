"""What somebody might send as a study file, an override or an argument to make the service run or write something.

`CANARY` is the path of a file that appears if a payload is executed.
"""

import os
from pathlib import Path

TOUCH = "touch CANARY"
HEAD = "study: x\n"

TAGS = {
    "os.system": f'!!python/object/apply:os.system ["{TOUCH}"]',
    "subprocess": "!!python/object/apply:subprocess.check_output [[touch, CANARY]]",
    "Popen": "!!python/object/new:subprocess.Popen [[touch, CANARY]]",
    "eval": "!!python/object/apply:eval [\"__import__('os').system('touch CANARY')\"]",
    "open": "!!python/object/apply:builtins.open [CANARY, w]",
    "name": "!!python/name:os.system",
    "module": "!!python/module:os",
    "object": "!!python/object:pathlib.Path {_raw_paths: [CANARY]}",
    "state": "!!python/object/new:type {args: [z, !!python/tuple [], {}]}",
    "tuple": "!!python/tuple [1]",
    "verbatim": f'!<tag:yaml.org,2002:python/object/apply:os.system> ["{TOUCH}"]',
    "binary": "!!binary Y2FuYXJ5",
    "include": "!include /etc/passwd",
    "environment": "!ENV ${HOSTILE_SECRET}",
    "ruby": "!ruby/object:Gem::Installer {i: x}",
    "javascript": "!!js/function 'function(){}'",
}
NAMES = {
    "parent": "../x",
    "root's password": "../../../../etc/passwd",
    "absolute": "/tmp/x",
    "UNC": "\\\\\\\\host\\\\share",
    "drive": "C:\\\\windows\\\\x",
    "percent": "%2e%2e%2fx",
    "double percent": "%252e%252e/x",
    "inner parent": "a/../../x",
    "NUL": "a\\0b",
    "dot": ".",
    "two dots": "..",
    "hidden": ".ssh",
    "home": "~root",
    "variable": "$HOME",
    "newline": "x\\ny",
    "option": "-rf",
    "semicolon": "x;touch CANARY",
    "substitution": "$(touch CANARY)",
    "backtick": "`touch CANARY`",
    "pipe": "x|touch CANARY",
    "and": "x && touch CANARY",
    "quote": "'; import os; os.system('touch CANARY') #",
    "template": "{{7*7}}",
    "resolver": "${oc.env:HOSTILE_SECRET}",
    "format": "{0.__class__.__init__.__globals__}",
    "markup": "<script>alert(1)</script>",
    "terminal": "\\e]0;owned\\a",
    "right to left": "x\\u202egpj",
    "fullwidth": "\\uff0e\\uff0e\\uff0fx",
}
EXTENDS = {
    "absolute": "/etc/passwd",
    "absolute YAML": "/tmp/other.yaml",
    "password": "../../../../../../etc/passwd",
    "missing parent": "../../../../nowhere/x.yaml",
    "link to a secret": "link.yaml",
    "link to a device": "zero.yaml",
    "link to itself": "loop.yaml",
    "a folder": "folder.yaml",
    "a pipe": "pipe.yaml",
    "itself": "h0.yaml/../h0.yaml",
    "address": "http://127.0.0.1:9/x.yaml",
    "file address": "file:///etc/passwd#.yaml",
    "NUL": "x\\0.yaml",
    "substitution": "$(touch CANARY).yaml",
    "number": "7",
}
INSTANTIATED = "{_target_: os.system, command: touch CANARY}"
HUGE = {
    "a billion seeds": "seeds: 1000000000\n",
    "a billion cells": "grid: {"
    + ", ".join(f"{name}: [{', '.join(map(str, range(1, 101)))}]" for name in ("epochs", "train_images", "batch_size"))
    + ", width: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]}\nseeds: 100\n",
    "a billion suggestions": "search: {trials: 1000000000, space: {width: [1, 2]}}\n",
    "seeds beyond any number": "seeds: 99999999999999999999999\n",
    "epochs without end": "base: {epochs: 1.0e308}\n",
    "a batch of petabytes": "base: {batch_size: 9000000000000000000}\n",
    "checkpoints without end": "checkpoints: {keep: 9000000000000000000000}\n",
}

HOSTILE_FILES: dict[str, str] = {
    **{f"tag: {name} in base": f"study: x\nbase: {tag}\n" for name, tag in TAGS.items()},
    "tag: as a key": f'study: x\n? !!python/object/apply:os.system ["{TOUCH}"]\n: 1\n',
    "tag: in the name": f'study: !!python/object/apply:os.system ["{TOUCH}"]\n',
    "tag: in a grid": f'study: x\ngrid: {{width: [!!python/object/apply:os.system ["{TOUCH}"]]}}\n',
    "tag: by directive": f'%TAG ! tag:yaml.org,2002:python/object/apply:\n---\nstudy: !os.system ["{TOUCH}"]\n',
    **{f"name: {name}": f'study: "{text}"\n' for name, text in NAMES.items()},
    **{f"data set: {name}": f'study: x\nbase: {{dataset: "{text}"}}\n' for name, text in NAMES.items()},
    **{f"extends: {name}": f'study: x\nextends: "{text}"\n' for name, text in EXTENDS.items()},
    "target: at the top": f"study: x\n_target_: os.system\ncommand: {TOUCH}\n",
    "target: in base": f"study: x\nbase: {INSTANTIATED}\n",
    "target: in a section": f"study: x\nresources: {INSTANTIATED}\n",
    "target: as a value": f"study: x\nbase: {{backbone: {INSTANTIATED}}}\n",
    "import path as backbone": 'study: x\nbase: {backbone: "os:system"}\n',
    "import path as objective": 'study: x\nbase: {objective: "subprocess.Popen"}\n',
    "import path as sampler": 'study: x\nsearch: {trials: 1, sampler: "os.system", space: {width: [1, 2]}}\n',
    "import path as scheduler": 'study: x\nearly_stop: {scheduler: "os.system"}\n',
    "environment as a value": 'study: x\nbase: {backbone: "${HOSTILE_SECRET}"}\n',
    "expression as a number": "study: x\nbase: {width: \"__import__('os').system('touch CANARY')\"}\n",
    "dunder field": "study: x\nbase: {__class__: x}\n",
    "constructor field": "study: x\n__init__: {__globals__: x}\n",
    "metric as a path": 'study: x\ncompare: {metric: "../../etc/passwd"}\n',
    **{f"huge: {name}": HEAD + text for name, text in HUGE.items()},
}
HOSTILE_OVERRIDES: dict[str, str] = {
    "set: name": "study=../../x",
    "set: substituted name": "study=$(touch CANARY)",
    "set: parent": "extends=/etc/passwd",
    "set: tag": f'base.epochs=!!python/object/apply:os.system ["{TOUCH}"]',
    "set: data set": "base.dataset=../../etc/passwd",
    "set: dunder": "base.__class__=x",
    "set: dunder path": "__class__.__init__.__globals__=x",
    "set: expression as key": "__import__('os').system('touch CANARY')=1",
    "set: key with a path": "../x=1",
    "set: two documents": "base.epochs=1\n---\nstudy: y",
    "set: another key on a new line": "base.epochs=1\nstudy: ../x",
    "set: option": "--yes",
    "set: bomb": "seeds=[&a [1,1,1,1,1,1,1,1,1],*a,*a]",
    "set: deep": "base.epochs=" + "[" * 5000,
    "set: a megabyte": "base.epochs=" + "9" * 100_000,
}
HOSTILE_ARGUMENTS: dict[str, list[str]] = {
    "argument: data set to prepare": ["data", "prepare", "../../x"],
    "argument: data set with a command": ["data", "prepare", "$(touch CANARY)"],
    "argument: data set to verify": ["data", "verify", "../../../etc"],
    "argument: a study that is a device": ["plan", "/dev/zero"],
    "argument: a study with NUL's neighbour": ["plan", "a\x01b.yaml"],
    "argument: a command as a study": ["plan", "; touch CANARY"],
    "argument: an option as a study": ["plan", "--", "--set"],
    "argument: a study to reconcile": ["reconcile", "../../etc/passwd"],
    "argument: a study to send": ["sync", "/etc/passwd"],
}


def prepare_ground(ground: Path) -> Path:
    """Folders of a victim: links out of the work folder, a secret outside it. Returns the work folder."""
    work = ground / "work"
    for folder in (work, ground / "home", ground / "tmp", work / "folder.yaml"):
        folder.mkdir(parents=True)
    (ground / "secret").write_text("password: c4n4ry-v4lue\n")
    (work / "link.yaml").symlink_to(ground / "secret")
    (work / "zero.yaml").symlink_to("/dev/zero")
    (work / "loop.yaml").symlink_to(work / "loop.yaml")
    os.mkfifo(work / "pipe.yaml")
    return work
