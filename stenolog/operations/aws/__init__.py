"""What listens to EventBridge for us: queues, a rule, its target; made by `setup`, tried by `verify`."""
