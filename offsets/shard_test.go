package offsets_test

import (
	"testing"

	"github.com/milena-kafka/milena/offsets"
)

// The place of a partition's journal follows from these numbers. A change makes all existing journals useless.
func TestShardOfIsStable(t *testing.T) {
	for _, test := range []struct {
		topic             string
		partition, shards int32
		want              int32
	}{
		{"", 0, 64, 0x811c9dc5 % 64},
		{"a", 0, 64, 0xe40c292c % 64},
		{"foobar", 0, 64, 0xbf9cf968 % 64},
		{"foobar", 1, 64, 0xbf9cf969 % 64},
		{"foobar", 25, 64, (0xbf9cf968 + 25) % 64},
		{"foobar", 5, 1, 0},
		{"foobar", 5, 50, 0xbf9cf96d % 50},
		{"foobar", 1<<31 - 1, 64, (0xbf9cf968 + 0x7fffffff - 1<<32) % 64}, // the sum is unsigned and wraps
	} {
		if got := offsets.ShardOf(test.topic, test.partition, test.shards); got != test.want {
			t.Errorf("ShardOf(%q, %d, %d) = %d, want %d", test.topic, test.partition, test.shards, got, test.want)
		}
	}
}

func TestShardOfSpreadsAPartitionedTopicEvenly(t *testing.T) {
	seen := map[int32]int{}
	for p := range int32(128) {
		seen[offsets.ShardOf("orders", p, 64)]++
	}
	if len(seen) != 64 {
		t.Errorf("128 partitions are in %d shards, want 2 in each of 64", len(seen))
	}
}

func TestShardOfPanicsWithoutShards(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	offsets.ShardOf("orders", 0, 0)
}

func TestJournalTopic(t *testing.T) {
	if got := offsets.JournalTopic("eu-us"); got != "milena.eu-us.journal" {
		t.Error(got)
	}
}
