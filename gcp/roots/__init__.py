"""The square root of a covariance with its gradient: by eigendecomposition, or by iterations."""
