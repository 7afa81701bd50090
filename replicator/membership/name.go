package membership

// GroupName returns the name of a flow's consumer group, which is on the target, like the journal that it is over.
func GroupName(flow string) string { return "milena." + flow }
