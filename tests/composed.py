"""The configuration that a stage gets from given options."""

from hydra import compose, initialize_config_dir

from w2v_inf.compose import load, register
from w2v_inf.config import CONF, Config


def config_of(*overrides: str) -> Config:
    """Compose the project's configuration with command-line overrides."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return load(compose("config", overrides=list(overrides)))
