"""An audit's configuration: one YAML file, one pydantic model.

`AuditConfig` is also the parameter of the audit flow: it survives JSON, and its schema draws a form.
"""

from calig.config.evaluation import EvaluationConfig
from calig.config.history import CompareConfig, GatesConfig, Limit
from calig.config.loading import expand_config, load_config, load_template, parse_config
from calig.config.schema import (
    AuditConfig,
    CorpusConfig,
    MethodConfig,
    ModelConfig,
    RuntimeConfig,
)

__all__ = [
    "AuditConfig",
    "CompareConfig",
    "CorpusConfig",
    "EvaluationConfig",
    "GatesConfig",
    "Limit",
    "MethodConfig",
    "ModelConfig",
    "RuntimeConfig",
    "expand_config",
    "load_config",
    "load_template",
    "parse_config",
]
