"""Image classifiers with a covariance-pooling head: backbones, assembly, freezing, parameter groups."""

from gcp.models.backbone import Backbone
from gcp.models.backbones import check_backbone, create_backbone, default_image_size, list_backbones
from gcp.models.classifier import Classifier, create_model
from gcp.models.parts import freeze, parameter_groups
from gcp.models.weights import load_backbone, load_classifier

__all__ = [
    "Backbone",
    "Classifier",
    "check_backbone",
    "create_backbone",
    "create_model",
    "default_image_size",
    "freeze",
    "list_backbones",
    "load_backbone",
    "load_classifier",
    "parameter_groups",
]
