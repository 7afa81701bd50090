package replicator_test

import (
	"strings"
	"testing"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// What check refuses, run refuses with the same sentence before it copies anything.
func TestRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		prepare func(c *replicatortest.Clusters)
		change  func(*config.Flow)
		want    string
	}{
		"a journal that retention shortens": {
			func(c *replicatortest.Clusters) {
				c.Target.CreateTopic("milena.a-b.journal", 64, "cleanup.policy", "compact,delete")
			}, func(*config.Flow) {},
			"--entity-name milena.a-b.journal --add-config cleanup.policy=compact",
		},
		"a migration from a topic that is missing": {
			func(c *replicatortest.Clusters) { c.Target.CreateTopic("a.orders", 1) },
			func(f *config.Flow) { f.MigrateFrom = "connect-offsets" },
			"migrate_from names topic connect-offsets, which does not exist on cluster b",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := replicatortest.NewClusters(t, 1)
			c.Source.CreateTopic("orders", 1)
			c.Source.Produce("orders", 1, 10, "one")
			test.prepare(c)
			if err := c.Start(test.change).Wait(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the flow ended with %v, want %q", err, test.want)
			}
			if ends, ok := c.Target.State()["a.orders-0"]; ok && ends != "0" {
				t.Errorf("%s records were copied", ends)
			}
		})
	}
}
