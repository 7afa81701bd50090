package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is a size in bytes. It is written with a unit, such as 32MiB. The units are KiB, MiB, GiB (1024) and kB, MB,
// GB (1000).
type Bytes int64

// The binary units.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
)

// unitBytes returns the bytes of a unit, or 0 if the unit is unknown. Case is ignored, because nobody means
// millibytes.
func unitBytes(unit string) int64 {
	switch strings.ToLower(unit) {
	case "", "b":
		return 1
	case "kib":
		return int64(KiB)
	case "mib":
		return int64(MiB)
	case "gib":
		return int64(GiB)
	case "kb":
		return 1e3
	case "mb":
		return 1e6
	case "gb":
		return 1e9
	default:
		return 0
	}
}

// String formats the size with the largest binary unit that needs no fraction, so that it reads back as the same
// size.
func (b Bytes) String() string {
	switch {
	case b == 0:
		return "0B"
	case b%GiB == 0:
		return fmt.Sprintf("%dGiB", int64(b/GiB))
	case b%MiB == 0:
		return fmt.Sprintf("%dMiB", int64(b/MiB))
	case b%KiB == 0:
		return fmt.Sprintf("%dKiB", int64(b/KiB))
	default:
		return fmt.Sprintf("%dB", int64(b))
	}
}

// MarshalText returns the text of String.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText parses a whole number with an optional unit: 33554432, 32MiB, 32 MiB.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit := unitBytes(strings.TrimSpace(s[len(digits):]))
	n, err := strconv.ParseInt(digits, 10, 64)
	if unit == 0 || err != nil || n < 0 || n > math.MaxInt64/unit {
		return fmt.Errorf("%q is not a size; write a whole number and a unit, such as 32MiB", s)
	}
	*b = Bytes(n * unit)
	return nil
}
