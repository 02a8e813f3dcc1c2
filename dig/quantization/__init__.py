"""Quantisation and the Semantic ID table."""

from dig.quantization.autoencoder import mlp
from dig.quantization.collisions import COLLISIONS, reassign
from dig.quantization.features import ItemFeatures, check_features
from dig.quantization.kmeans import assign, kmeans
from dig.quantization.ranks import gather_rows
from dig.quantization.residual import QuantizerOutput, ResidualQuantizer
from dig.quantization.residual_kmeans import ResidualCodes, residual_kmeans
from dig.quantization.semantic_ids import SemanticIds, group_rows
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
