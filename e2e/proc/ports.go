package proc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// given are the ports that FreePorts has returned. Two clusters that start at the same time must not find the same one, before either listens.
var given sync.Map //nolint:gochecknoglobals // ports belong to the machine

// FreePorts finds n free loopback ports, each of them once per process. They are below the kernel's range for outgoing connections, so that the port of a
// stopped broker stays free.
func FreePorts(ctx context.Context, n int) ([]int, error) {
	const lowest, highest = 12000, 32000
	var lc net.ListenConfig
	var ports []int
	var held []net.Listener // closed at the end, so that no port is found twice
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for range 1000 {
		if len(ports) == n {
			return ports, nil
		}
		port := lowest + rand.IntN(highest-lowest)
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		l, err := lc.Listen(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		held = append(held, l)
		ports = append(ports, port)
	}
	return nil, errors.New("no free loopback ports")
}
