package compare

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/milena-kafka/milena/offsets"
)

func TestChoosePlace(t *testing.T) {
	start, end := offsets.Pair{Source: 10, Target: 5}, offsets.Pair{Source: 9000, Target: 8000}
	emptied := offsets.Pair{Source: 9000, Target: 5}
	syncs := []offsets.Pair{{Source: 100, Target: 80}, {Source: 500, Target: 400}}
	for _, test := range []struct {
		name            string
		beginning       beginning
		end             offsets.Pair
		connectorOffset int64
		syncs           []offsets.Pair
		source, target  int64
		syncPoints      int
	}{
		{"at the newest offset-sync", beginning{}, end, 700, syncs, 500, 400, 1},
		{"at the beginning of both logs", beginning{whole: true}, end, 700, syncs, 10, 5, 0},
		{"near the end, as the offset-syncs do not hold", beginning{ignoreSyncs: true}, end, 700, syncs, -1, 8000 - lastRecords, 0},
		{"near the end, as there is no offset-sync", beginning{}, end, 700, nil, -1, 8000 - lastRecords, 0},
		{"near the end, as the offset-sync is too far back", beginning{}, offsets.Pair{Source: 9000, Target: 401 + maxDistance}, 700, syncs, -1, 401 + maxDistance - lastRecords, 0},
		{"at the connector offset of an empty copy", beginning{}, emptied, 700, nil, 700, 5, 0},
		{"at the beginning of the source for an empty copy without connector offset", beginning{}, emptied, -1, nil, 10, 5, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			at := test.beginning.choose(start, test.end, test.connectorOffset, test.syncs)
			if at.source != test.source || at.target != test.target || len(at.syncPoints) != test.syncPoints {
				t.Errorf("%+v, want source %d, target %d", at, test.source, test.target)
			}
		})
	}
}

func TestCursorRewinds(t *testing.T) {
	c := cursor{}
	c.place(10, 50)
	c.rewind(20)
	c.next = 30
	c.rewind(15)
	if got := []any{c.next, c.read(), c.reread(49), c.reread(50)}; !gocmp.Equal(got, []any{int64(15), int64(50), true, false}) {
		t.Error(got)
	}
	c.place(10, 60)
	if c.read() != 60 || c.reread(15) {
		t.Error("a place does not begin again")
	}
}
