"""Quantisation and the Semantic ID table."""

from dig.quantization.features import ItemFeatures, check_features
from dig.quantization.kmeans import ResidualCodes, assign, kmeans, residual_kmeans
from dig.quantization.residual import QuantizerOutput, ResidualQuantizer, gather_rows, mlp
from dig.quantization.semantic_ids import COLLISIONS, SemanticIds, group_rows, reassign
from dig.quantization.sinkhorn import assign_evenly, sinkhorn

__all__ = [
    "COLLISIONS",
    "ItemFeatures",
    "QuantizerOutput",
    "ResidualCodes",
    "ResidualQuantizer",
    "SemanticIds",
    "assign",
    "assign_evenly",
    "check_features",
    "gather_rows",
    "group_rows",
    "kmeans",
    "mlp",
    "reassign",
    "residual_kmeans",
    "sinkhorn",
]
