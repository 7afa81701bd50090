package replicator

import (
	"testing"
	"unsafe"
)

// With 8 bytes of the collector's own a partition fits a block of 1024 bytes, and the next larger block would cost 13 MB for 100,000 partitions.
func TestSizeOfAPartition(t *testing.T) {
	if size := unsafe.Sizeof(partition{}); size > 1024 {
		t.Errorf("a partition has %d bytes, more than 1024", size)
	}
}
