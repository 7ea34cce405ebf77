"""Configs as a script gets them."""

from hydra import compose, initialize_config_dir

from w2v_inf.config import PROJECT_ROOT, Config, load, register


def config_of(*overrides: str) -> Config:
    """Compose the project's configuration with command-line overrides."""
    register()
    with initialize_config_dir(str(PROJECT_ROOT / "conf"), version_base="1.3"):
        return load(compose("config", overrides=list(overrides)))
