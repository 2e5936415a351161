"""The version, without anything else being imported."""

VERSION = "0.1.0"
