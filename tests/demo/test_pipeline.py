from __future__ import annotations

import json
from pathlib import Path

from nnunet_uhf.demo.pipeline import STATE_NAME
from nnunet_uhf.demo.settings import DemoSettings
from nnunet_uhf.stages import open_folder


def test_a_demo_folder_of_version_0_1_0_goes_on_where_it_stopped(tmp_path: Path) -> None:
    settings = DemoSettings().as_json()
    content = {"nnunet_uhf_demo": 1, "settings": settings, "finished": {"phantoms": 12.5}}
    (tmp_path / "demo.json").write_text(json.dumps(content, indent=2))
    state = open_folder(tmp_path, settings, name=STATE_NAME)
    assert state.finished == {"phantoms": 12.5}
    state.save()
    assert json.loads((tmp_path / "demo.json").read_text()) == json.loads(json.dumps(content))
