"""Build AMD's ROCm from source into verified Debian packages."""

__version__ = "0.1.0"
