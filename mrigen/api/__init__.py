"""mrigen from Python: `fit`, the `Run` it returns with the verbs as methods, and a scikit-learn transformer.

Everything here is a name of `mrigen` itself; nothing here loads TensorFlow before it is needed.
"""
