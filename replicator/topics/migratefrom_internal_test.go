package topics

import (
	"strings"
	"testing"

	"github.com/milena-kafka/milena/config"
)

// A name of migrate_from that is wrong is refused, if there is something to migrate and somebody wrote the name.
func TestCheckMigrateFrom(t *testing.T) {
	copied := []Pair{{TargetName: "a.orders", Target: Topic{Name: "a.orders"}}}
	fresh := []Pair{{TargetName: "a.orders"}}
	for name, test := range map[string]struct {
		topic  string
		exists bool
		pairs  []Pair
		wrong  bool
	}{
		"a topic that is missing":   {"connect-offsets", false, copied, true},
		"a topic that exists":       {"connect-offsets", true, copied, false},
		"nothing was copied":        {"connect-offsets", false, fresh, false},
		"the default is missing":    {"mm2-offsets.a.internal", false, copied, false},
		"the flow migrates nothing": {"", false, copied, false},
	} {
		target := View{ByName: map[string]Topic{}}
		if test.exists {
			target.ByName[test.topic] = Topic{Name: test.topic}
		}
		err := CheckMigrateFrom(config.Flow{Name: "a-b", Source: "a", Target: "b", MigrateFrom: test.topic}, target, test.pairs)
		if (err != nil) != test.wrong || test.wrong && !strings.Contains(err.Error(), "topic connect-offsets, which does not exist on cluster b") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
