"""What the model_deployment pipeline does with a version: load it, ask it, and try to make an ONNX graph of it."""
