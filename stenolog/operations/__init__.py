"""What operators do with a deployment: doctor, backup, diff, replay, AWS set-up."""
