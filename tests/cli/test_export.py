from __future__ import annotations

import pytest
from tests.small_segmenters import tiny_segmenter, write_segmenter

from labels4free import cli, export
from labels4free.export import Exported


def test_it_says_what_it_wrote(tmp_path, monkeypatch, capsys):
    source = write_segmenter(tmp_path / "s.safetensors", tiny_segmenter())
    out = tmp_path / "s.onnx"

    def fake(model, path):
        assert (model, path) == (str(source), out)
        path.write_bytes(bytes(1_500_000))
        return Exported(path, "alpha_network", {"image": ["N", 3, "H", "W"]}, 2e-6)

    monkeypatch.setattr(export, "export_onnx", fake)
    assert cli.main(["export", str(source), str(out)]) == cli.SUCCESS
    assert capsys.readouterr().out.splitlines() == [
        f"Wrote {out} (alpha network, 1.5 MB).",
        "  image: N x 3 x H x W",
        "Largest difference from PyTorch: 2.0e-06 of the largest value.",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["m.safetensors", "m.pt"], "must end in .onnx, got m.pt"),
        (["none.safetensors", "m.onnx"], "neither a file nor"),
    ],
)
def test_bad_input_is_one_sentence(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", *words]) == cli.FAILURE
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert message in said.err
