from llia_core import doctor


def test_missing_and_broken_packages_are_told_not_raised(tmp_path, monkeypatch):
    (tmp_path / "broken_wheel.py").write_text("raise OSError('libcudart.so not found')")
    monkeypatch.syspath_prepend(tmp_path)
    packages = {"torch": ("torch", "all"), "no_such_wheel": ("no-wheel", "x"), "broken_wheel": ("broken-wheel", "y")}
    monkeypatch.setattr(doctor, "PACKAGES", packages)
    lines = doctor.report(tmp_path / "none")
    assert any(line.startswith("ok      torch 2") for line in lines)
    assert "MISSING no-wheel (x): pip install no-wheel" in lines
    (broken,) = (line for line in lines if "broken-wheel" in line)
    assert broken.startswith("MISSING") and "libcudart.so not found" in broken and "--force-reinstall" in broken


def test_models_and_assets_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", {})
    monkeypatch.setattr(doctor, "ASSETS", tmp_path)
    (tmp_path / "own.safetensors").write_bytes(bytes(2**20))
    lines = doctor.report(tmp_path)
    assert any(line.startswith("MISSING face landmarker") for line in lines)
    assert "ok      bundled checkpoint own.safetensors 1.0 MiB" in lines
    assert "          own.safetensors 1.0 MiB" in lines
    assert "ok      encoder libx264" in lines
