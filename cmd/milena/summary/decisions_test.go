package summary_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/control"
)

// What stops a way back that nobody has started holds since no time, and none is said.
func TestStandbyHasNoTime(t *testing.T) {
	t.Parallel()
	back := config.DefaultFlow("b", "a")
	back.ReverseOf = "a-b"
	d := control.NewState(back).Stopped()
	text := summary.InForceText(string(d.What), d.Scope.String(), d.Who, d.Why, d.When, d.Until, d.Rate)
	if !strings.HasPrefix(text, "stopped: the flow, by its config: it is the way back of flow a-b") {
		t.Error(text)
	}
	if said := d.Since(); said != "by its config" {
		t.Error(said)
	}
	if data, err := json.Marshal(d); err != nil || strings.Contains(string(data), "0001-01-01") {
		t.Errorf("%v: %s", err, data)
	}
	d.Who, d.When = "alice", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if said := d.Since(); said != "since 2026-01-02 03:04:05 by alice" {
		t.Error(said)
	}
	if text := summary.InForceText(string(d.What), d.Scope.String(), d.Who, "", d.When, d.Until, 0); text != "stopped: the flow, by alice since "+d.When.Local().Format(time.DateTime) {
		t.Error(text)
	}
}
