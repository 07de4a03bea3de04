"""An onready backend for the company's batch service."""
