package kafka

import (
	"context"
	_ "embed"
	"os"
	"path/filepath"
)

//go:embed Policy.java
var policy []byte

// The classes that Jars.Policies compiles.
const (
	// Policy is a class for create.topic.policy.class.name and alter.config.policy.class.name, which refuses what its source says.
	Policy = "Policy"
	// Requests is a class for authorizer.class.name, which allows everything. With it, Policy refuses requests that create more than MostTopics.
	Requests   = "Policy$Requests"
	MostTopics = 5
)

// Policies compiles the policies of a managed service into a directory, for Options.Classes.
func (j Jars) Policies(ctx context.Context, into string) error {
	source := filepath.Join(into, "Policy.java")
	if err := os.WriteFile(source, policy, 0o644); err != nil {
		return err
	}
	return j.Compile(ctx, source, into)
}
