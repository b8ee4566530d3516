"""The method away from Python: one ONNX graph that holds all of it, and the page that runs it in a browser, without a server."""
