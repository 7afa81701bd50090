package offsets_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/offsets"
)

// The golden bytes were written by Kafka's own classes.
func TestMM2RecordFormat(t *testing.T) {
	at := time.UnixMilli(1700000000000)
	for _, c := range []struct {
		name  string
		entry interface {
			AppendKey(b []byte) []byte
			AppendValue(b []byte) []byte
		}
		key, value string
	}{
		{"heartbeat", offsets.Heartbeat{"A", "B", at}, "000141000142", "00000000018bcfe56800"},
		{"checkpoint", offsets.Checkpoint{"g1", "A.t", 3, 42, 40, ""}, "000267310003412e7400000003", "0000000000000000002a00000000000000280000"},
		{"checkpoint with metadata", offsets.Checkpoint{"g1", "A.t", 3, 42, 40, "hé"}, "000267310003412e7400000003", "0000000000000000002a0000000000000028000368c3a9"},
		{"offset-sync", offsets.OffsetSync{"t", 3, 42, 40}, "00017400000003", "000000000000002a0000000000000028"},
	} {
		t.Run(c.name, func(t *testing.T) {
			key, value := c.entry.AppendKey(nil), c.entry.AppendValue(nil)
			if hex.EncodeToString(key) != c.key || hex.EncodeToString(value) != c.value {
				t.Fatalf("%x %x, want %s %s", key, value, c.key, c.value)
			}
			var back any
			var err error
			switch c.entry.(type) {
			case offsets.Heartbeat:
				back, err = offsets.DecodeHeartbeat(key, value)
				if h, ok := back.(offsets.Heartbeat); ok && h.At.Equal(at) {
					h.At = at
					back = h
				}
			case offsets.Checkpoint:
				back, err = offsets.DecodeCheckpoint(key, value)
			case offsets.OffsetSync:
				back, err = offsets.DecodeOffsetSync(key, value)
			}
			if err != nil || back != c.entry {
				t.Errorf("read back %+v, %v", back, err)
			}
		})
	}
}

func TestDecodeMM2RecordRefuses(t *testing.T) {
	key, value := offsets.Checkpoint{"g", "t", 0, 1, 1, "m"}.AppendKey(nil), offsets.Checkpoint{"g", "t", 0, 1, 1, "m"}.AppendValue(nil)
	newer := append([]byte{0, 7}, value[2:]...)
	for _, c := range []struct {
		name       string
		key, value []byte
		version    uint16
	}{
		{"empty key", nil, value, 0},
		{"short key", key[:4], value, 0},
		{"long key", append(key[:len(key):len(key)], 1), value, 0},
		{"empty value", key, []byte{}, 0},
		{"short value", key, value[:9], 0},
		{"long value", key, append(value[:len(value):len(value)], 1), 0},
		{"newer", key, newer, 7},
		{"negative text", []byte{0xff, 0xff}, value, 0},
		{"negative partition", []byte{0, 0, 0, 0, 0xff, 0, 0, 0}, value, 0},
		{"negative offset", key, append([]byte{0, 0, 0xff}, value[3:]...), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := offsets.DecodeCheckpoint(c.key, c.value)
			var wrong *offsets.CorruptError
			var newer *offsets.VersionError
			switch {
			case c.version > 0 && errors.As(err, &newer) && newer.Version == c.version && newer.What == "checkpoint":
			case c.version == 0 && errors.As(err, &wrong) && wrong.What == "checkpoint":
			default:
				t.Errorf("error is %v", err)
			}
		})
	}
	if _, err := offsets.DecodeCheckpoint(key, nil); !errors.Is(err, offsets.ErrTombstone) {
		t.Errorf("a tombstone gives %v", err)
	}
	if _, err := offsets.DecodeHeartbeat([]byte{0, 0, 0, 0}, nil); !errors.Is(err, offsets.ErrTombstone) {
		t.Errorf("a tombstone gives %v", err)
	}
}

func TestLongMetadataIsTruncated(t *testing.T) {
	c := offsets.Checkpoint{Group: "g", Topic: "t", Metadata: strings.Repeat("é", 20000) + "\xff"}
	back, err := offsets.DecodeCheckpoint(c.AppendKey(nil), c.AppendValue(nil))
	if err != nil || back.Metadata != strings.Repeat("é", 16383) {
		t.Errorf("%d bytes came back, %v", len(back.Metadata), err)
	}
}

func FuzzDecodeMM2Records(f *testing.F) {
	c := offsets.Checkpoint{"g1", "A.t", 3, 42, 40, "x"}
	f.Add(c.AppendKey(nil), c.AppendValue(nil))
	h := offsets.Heartbeat{"A", "B", time.UnixMilli(1)}
	f.Add(h.AppendKey(nil), h.AppendValue(nil))
	s := offsets.OffsetSync{"t", 3, 42, 40}
	f.Add(s.AppendKey(nil), s.AppendValue(nil))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if c, err := offsets.DecodeCheckpoint(key, value); err == nil && (string(c.AppendKey(nil)) != string(key) || string(c.AppendValue(nil)) != string(value)) {
			t.Errorf("checkpoint %+v has two encodings", c)
		}
		if h, err := offsets.DecodeHeartbeat(key, value); err == nil && (string(h.AppendKey(nil)) != string(key) || string(h.AppendValue(nil)) != string(value)) {
			t.Errorf("heartbeat %+v has two encodings", h)
		}
		if s, err := offsets.DecodeOffsetSync(key, value); err == nil && (string(s.AppendKey(nil)) != string(key) || string(s.AppendValue(nil)) != string(value)) {
			t.Errorf("offset-sync %+v has two encodings", s)
		}
	})
}

func TestNamesMatchMM2(t *testing.T) {
	var dot offsets.Names
	dash := offsets.Names{Separator: "-"}
	legacy := offsets.Names{Separator: "-", InternalSeparator: "."}
	for got, want := range map[string]string{
		dot.Checkpoints("a"): "a.checkpoints.internal", dash.Checkpoints("a"): "a-checkpoints-internal", legacy.Checkpoints("a"): "a.checkpoints.internal",
		dot.OffsetSyncs("b"): "mm2-offset-syncs.b.internal", dash.OffsetSyncs("b"): "mm2-offset-syncs-b-internal", legacy.OffsetSyncs("b"): "mm2-offset-syncs.b.internal",
		dot.Original("b.a.orders"): "orders", dash.Original("b.a.orders"): "b.a.orders",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for _, c := range []struct {
		topic, source string
		hops          int
	}{
		{"heartbeats", "a", -1},
		{"a.heartbeats", "a", 1},
		{"b.a.heartbeats", "a", 2},
		{"b.a.heartbeats", "b", 1},
		{"a.b.a.heartbeats", "a", 1},
		{"b.a.heartbeats", "heartbeats", -1},
		{"a.", "a", -1},
		{"a..", "a", -1}, // Java's split drops empty parts at the end
		{"a..b", "a", 1},
		{".a", "", 1},
	} {
		if got := dot.Hops(c.topic, c.source); got != c.hops {
			t.Errorf("%s is %d hops from %q, want %d", c.topic, got, c.source, c.hops)
		}
	}
	if !dot.IsHeartbeats("b.a.heartbeats") || dot.IsHeartbeats("device-heartbeats") || !dash.IsHeartbeats("a-heartbeats") {
		t.Error("heartbeats are not recognized")
	}
}

func TestNamesOfOneHop(t *testing.T) {
	var n offsets.Names
	for _, c := range []struct{ topic, source, upstream, original string }{
		{"orders", "", "", "orders"},
		{"a.orders", "a", "orders", "orders"},
		{"b.a.orders", "b", "a.orders", "orders"},
		{"a.", "", "", "a."},
	} {
		if s, u, o := n.Source(c.topic), n.Upstream(c.topic), n.Original(c.topic); s != c.source || u != c.upstream || o != c.original {
			t.Errorf("%s: source %q, upstream %q, original %q", c.topic, s, u, o)
		}
	}
	for topic, want := range map[string]bool{
		"a.checkpoints.internal": true, "mm2-offset-syncs.a.internal": true, "__consumer_offsets": true, "milena.a-b.journal": true,
		"a.heartbeats": false, "payments-internal": false, "mm2": false, "a.b": false,
	} {
		if n.IsInternal(topic) != want {
			t.Errorf("%s: internal is %v", topic, !want)
		}
	}
	if !n.IsCheckpoints("a.checkpoints.internal") || n.IsCheckpoints("checkpoints") {
		t.Error("checkpoints are not recognized")
	}
}
