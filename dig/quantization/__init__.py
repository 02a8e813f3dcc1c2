"""Residual quantisation and the Semantic ID table."""

from dig.quantization.autoencoder import mlp
from dig.quantization.kmeans import assign, kmeans
from dig.quantization.residual import QuantizerOutput, ResidualQuantizer
from dig.quantization.semantic_ids import SemanticIds, group_rows

__all__ = ["SemanticIds", "ResidualQuantizer", "QuantizerOutput", "kmeans", "assign", "mlp", "group_rows"]
