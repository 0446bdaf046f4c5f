"""How weights move: the Kalman filter with its covariance, and Adam; each an init and an update."""
