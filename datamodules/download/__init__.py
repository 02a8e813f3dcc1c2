"""Fetching published data and pictures: resumable, verified, never silent."""

from datamodules.download.files import PUBLISHED, RemoteFile, download, download_all, published_files
from datamodules.download.pictures import PictureReport, fetch_pictures, picture_paths
from datamodules.download.retry import RetryPolicy

__all__ = [
    "PUBLISHED",
    "PictureReport",
    "RemoteFile",
    "RetryPolicy",
    "download",
    "download_all",
    "fetch_pictures",
    "picture_paths",
    "published_files",
]
