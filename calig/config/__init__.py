"""An audit's configuration: one YAML file, one pydantic model.

`AuditConfig` is also the parameter of the audit flow: it survives JSON, and its schema draws a form.
"""

from calig.config.evaluation import EvaluationConfig
from calig.config.loading import load_config, parse_config
from calig.config.schema import (
    AuditConfig,
    CorpusConfig,
    GatesConfig,
    MethodConfig,
    ModelConfig,
    RuntimeConfig,
)

__all__ = [
    "AuditConfig",
    "CorpusConfig",
    "EvaluationConfig",
    "GatesConfig",
    "MethodConfig",
    "ModelConfig",
    "RuntimeConfig",
    "load_config",
    "parse_config",
]
