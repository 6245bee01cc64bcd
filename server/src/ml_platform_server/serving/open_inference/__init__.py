"""Predictions as the Open Inference Protocol asks for them: tensors in, tensors out."""
