package recordbatch_test

import (
	"errors"
	"testing"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// TestAdmit has at least one case for each kind of batch that brokers treat differently.
func TestAdmit(t *testing.T) {
	const (
		forward = recordbatch.RouteForward
		rebuild = recordbatch.RouteRebuild
		drop    = recordbatch.RouteDrop
	)
	five := plainRecords(100, 5, 10)
	stamped := batchSpec{base: 100, attributes: bitLogAppendTime, maxTime: 5, records: five}
	plain := batchSpec{base: 100, producerID: 7, records: five}
	txn := batchSpec{base: 100, producerID: 7, attributes: bitTransactional, records: five}
	aborted := func(producerID, first int64) recordbatch.Aborted {
		return recordbatch.NewAborted([]recordbatch.AbortedTransaction{{ProducerID: producerID, FirstOffset: first}})
	}
	size := int32(len(encodeSource(t, plain)))
	tests := []struct {
		name    string
		batch   []byte
		aborted recordbatch.Aborted
		rules   recordbatch.Rules
		route   recordbatch.Route
		reason  string
	}{
		{name: "magic 0", batch: encodeMessage(messageSpec{offset: 100}), route: rebuild, reason: "old_format"},
		{name: "magic 1", batch: encodeMessage(messageSpec{magic: 1, offset: 100}), route: rebuild, reason: "old_format"},
		{name: "magic 1, already copied", batch: encodeMessage(messageSpec{magic: 1, offset: 100}), rules: recordbatch.Rules{Wanted: 101}, route: drop, reason: "before_wanted"},
		{name: "abort marker", batch: marker(t, 100, 7, 0), route: drop, reason: "control"},
		{name: "commit marker", batch: marker(t, 100, 7, 1), route: drop, reason: "control"},
		{name: "control type of a later version", batch: marker(t, 100, 7, 9), route: drop, reason: "control"},
		{name: "empty control batch", batch: encodeSource(t, batchSpec{base: 100, attributes: bitControl}), route: drop, reason: "control"},
		{name: "empty batch", batch: encodeSource(t, batchSpec{base: 100, last: 104}), route: drop, reason: "empty"},
		{name: "aborted", batch: encodeSource(t, txn), aborted: aborted(7, 100), route: drop, reason: "aborted"},
		{name: "aborted and copied", batch: encodeSource(t, txn), aborted: aborted(7, 50), rules: recordbatch.Rules{Wanted: 200}, route: drop, reason: "aborted"},
		{name: "committed before an abort", batch: encodeSource(t, txn), aborted: aborted(7, 101), route: forward},
		{name: "another producer's abort", batch: encodeSource(t, txn), aborted: aborted(8, 100), route: forward},
		{name: "not transactional, same producer", batch: encodeSource(t, plain), aborted: aborted(7, 100), route: forward},
		{name: "committed", batch: encodeSource(t, txn), route: forward},
		{name: "completely copied", batch: encodeSource(t, plain), rules: recordbatch.Rules{Wanted: 105}, route: drop, reason: "before_wanted"},
		{name: "all but one copied", batch: encodeSource(t, plain), rules: recordbatch.Rules{Wanted: 104}, route: rebuild, reason: "mid_batch"},
		{name: "one copied", batch: encodeSource(t, plain), rules: recordbatch.Rules{Wanted: 101}, route: rebuild, reason: "mid_batch"},
		{name: "wanted is the base", batch: encodeSource(t, plain), rules: recordbatch.Rules{Wanted: 100}, route: forward},
		{name: "hole at the head", batch: encodeSource(t, batchSpec{base: 99, records: five}), route: rebuild, reason: "holes"},
		{name: "hole at the end", batch: encodeSource(t, batchSpec{base: 100, last: 110, records: five}), route: rebuild, reason: "holes"},
		{name: "stamped, target keeps create times", batch: encodeSource(t, stamped), route: rebuild, reason: "log_append_time"},
		{name: "stamped, target stamps", batch: encodeSource(t, stamped), rules: recordbatch.Rules{TargetLogAppendTime: true}, route: forward},
		{name: "delete horizon", batch: encodeSource(t, batchSpec{base: 100, attributes: bitDeleteHorizon, horizon: 55, records: five}), route: forward},
		{name: "at the limit", batch: encodeSource(t, plain), rules: recordbatch.Rules{MaxBytes: size}, route: forward},
		{name: "a byte over the limit", batch: encodeSource(t, plain), rules: recordbatch.Rules{MaxBytes: size - 1}, route: rebuild, reason: "too_large"},
		{name: "as many records as allowed", batch: encodeSource(t, plain), rules: recordbatch.Rules{MaxRecords: 5}, route: forward},
		{name: "a record more than allowed", batch: encodeSource(t, plain), rules: recordbatch.Rules{MaxRecords: 4}, route: rebuild, reason: "split"},
		{name: "unknown attribute bits", batch: encodeSource(t, batchSpec{base: 100, attributes: 0x4080, records: five}), route: forward},
		{name: "zstd", batch: encodeSource(t, batchSpec{base: 100, codec: recordbatch.Zstd, records: five}), route: forward},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			route, reason, err := recordbatch.Admit(test.batch, mustParse(t, test.batch), &test.aborted, test.rules)
			if err != nil {
				t.Fatal(err)
			}
			if route != test.route || reason.String() != test.reason {
				t.Errorf("got %s %q, want %s %q", route, reason, test.route, test.reason)
			}
		})
	}
}

// TestAbortedTransactionsEndAtTheirMarkers admits the batches of a partition with two interleaved producers, of which some abort.
func TestAbortedTransactionsEndAtTheirMarkers(t *testing.T) {
	data := func(offset, producerID int64, attributes recordbatch.Attributes) []byte {
		return encodeSource(t, batchSpec{base: offset, producerID: producerID, attributes: attributes, records: plainRecords(offset, 1, 4)})
	}
	steps := []struct {
		batch []byte
		want  string
	}{
		{data(9, 1, bitTransactional), "forward"}, // a transaction that commits
		{marker(t, 10, 1, 1), "drop control"},
		{data(11, 1, bitTransactional), "drop aborted"},
		{data(12, 2, bitTransactional), "drop aborted"},
		{data(13, 3, 0), "forward"},
		{marker(t, 14, 1, 0), "drop control"},
		{data(15, 1, bitTransactional), "forward"}, // the next transaction of the producer commits
		{data(16, 2, bitTransactional), "drop aborted"},
		{marker(t, 17, 1, 1), "drop control"},
		{marker(t, 18, 2, 0), "drop control"},
		{data(19, 1, bitTransactional), "drop aborted"}, // its third one does not
		{marker(t, 20, 1, 0), "drop control"},
		{marker(t, 21, 1, 0), "drop control"}, // one marker too many
		{data(22, 1, bitTransactional), "forward"},
	}
	// Redpanda does not sort the list.
	list := []recordbatch.AbortedTransaction{{ProducerID: 1, FirstOffset: 19}, {ProducerID: 2, FirstOffset: 12}, {ProducerID: 1, FirstOffset: 11}}
	aborted := recordbatch.NewAborted(list)
	for i, step := range steps {
		route, reason, err := recordbatch.Admit(step.batch, mustParse(t, step.batch), &aborted, recordbatch.Rules{})
		if err != nil {
			t.Fatal(err)
		}
		got := route.String()
		if reason != recordbatch.ReasonNone {
			got += " " + reason.String()
		}
		if got != step.want {
			t.Errorf("step %d: got %q, want %q", i, got, step.want)
		}
	}
}

// A control record of a type that a later version of Kafka may bring is dropped and ends no transaction.
func TestUnknownControlRecordsEndNoTransaction(t *testing.T) {
	data := func(offset int64) []byte {
		return encodeSource(t, batchSpec{base: offset, producerID: 1, attributes: bitTransactional, records: plainRecords(offset, 1, 4)})
	}
	for kind := 2; kind <= 255; kind++ {
		aborted := recordbatch.NewAborted([]recordbatch.AbortedTransaction{{ProducerID: 1, FirstOffset: 10}})
		for _, batch := range [][]byte{data(10), marker(t, 11, 1, byte(kind)), data(12), marker(t, 13, 1, 0)} {
			if route, _, err := recordbatch.Admit(batch, mustParse(t, batch), &aborted, recordbatch.Rules{}); err != nil || route != recordbatch.RouteDrop {
				t.Fatalf("type %d, offset %d: %s, %v", kind, mustParse(t, batch).BaseOffset, route, err)
			}
		}
		after := data(14)
		if route, _, err := recordbatch.Admit(after, mustParse(t, after), &aborted, recordbatch.Rules{}); err != nil || route != recordbatch.RouteForward {
			t.Fatalf("type %d, after the abort: %s, %v", kind, route, err)
		}
	}
}

func TestAdmitVerifiesWhatItDrops(t *testing.T) {
	five := plainRecords(100, 5, 10)
	list := []recordbatch.AbortedTransaction{{ProducerID: 7, FirstOffset: 1}}
	tests := []struct {
		name   string
		batch  []byte
		damage func(b []byte)
		wanted int64
	}{
		{"control bit", encodeSource(t, batchSpec{base: 100, records: five}), func(b []byte) { b[22] |= 0x20 }, 0},
		{"count", encodeSource(t, batchSpec{base: 100, records: five}), func(b []byte) { b[60] = 0 }, 0},
		{"transactional bit", encodeSource(t, batchSpec{base: 100, producerID: 7, records: five}), func(b []byte) { b[22] |= 0x10 }, 0},
		{"last offset delta", encodeSource(t, batchSpec{base: 100, records: five}), func(b []byte) { b[26] = 0 }, 103},
		{"marker", marker(t, 100, 7, 1), func(b []byte) { b[len(b)-1] ^= 1 }, 0},
		{"old message", encodeMessage(messageSpec{magic: 1, offset: 5, value: []byte("v")}), func(b []byte) { b[len(b)-1] ^= 1 }, 10},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			aborted := recordbatch.NewAborted(list)
			test.damage(test.batch)
			route, _, err := recordbatch.Admit(test.batch, mustParse(t, test.batch), &aborted, recordbatch.Rules{Wanted: test.wanted})
			var corrupt *recordbatch.CorruptError
			if !errors.As(err, &corrupt) || route != 0 {
				t.Errorf("got %s, %v", route, err)
			}
		})
	}
}

func TestAdmitRejectsWhatItDoesNotKnow(t *testing.T) {
	unknownCodec := encodeSource(t, batchSpec{base: 100, attributes: 5, records: plainRecords(100, 1, 1)})
	zstdMessage := encodeMessage(messageSpec{magic: 1, attributes: 4, offset: 100})
	malformed := encodeSource(t, batchSpec{base: 100, attributes: bitControl, records: []recordbatch.Record{{Offset: 100, Key: []byte{0, 0, 0}}}})
	for name, batch := range map[string][]byte{"codec 5": unknownCodec, "zstd in magic 1": zstdMessage, "short control key": malformed} {
		var format *recordbatch.FormatError
		if _, _, err := recordbatch.Admit(batch, mustParse(t, batch), nil, recordbatch.Rules{}); !errors.As(err, &format) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseMarker(t *testing.T) {
	for kind, want := range map[byte]recordbatch.Marker{
		0: recordbatch.MarkerAbort, 1: recordbatch.MarkerCommit, 2: recordbatch.MarkerOther, 7: recordbatch.MarkerOther, 255: recordbatch.MarkerOther,
	} {
		if got, err := recordbatch.ParseMarker(marker(t, 100, 7, kind)); err != nil || got != want {
			t.Errorf("type %d: %v, %v", kind, got, err)
		}
	}
	var format *recordbatch.FormatError
	for name, batch := range map[string][]byte{
		"records":          encodeSource(t, batchSpec{base: 100, records: plainRecords(100, 1, 1)}),
		"no marker inside": encodeSource(t, batchSpec{base: 100, attributes: bitControl}),
		"compressed":       encodeSource(t, batchSpec{base: 100, attributes: bitControl, codec: recordbatch.LZ4, records: plainRecords(100, 1, 9)}),
		"nothing":          nil,
	} {
		if _, err := recordbatch.ParseMarker(batch); !errors.As(err, &format) {
			t.Errorf("%s: %v", name, err)
		}
	}
	damaged := marker(t, 100, 7, 0)
	damaged[len(damaged)-12] ^= 1
	var corrupt *recordbatch.CorruptError
	if _, err := recordbatch.ParseMarker(damaged); !errors.As(err, &corrupt) {
		t.Errorf("damaged marker: %v", err)
	}
}
