package proc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// FreePorts finds n loopback ports that nobody listens on. They lie below the range that the kernel gives to outgoing connections,
// so that a stopped broker finds its port free again.
func FreePorts(ctx context.Context, n int) ([]int, error) {
	const lowest, highest = 12000, 32000
	var lc net.ListenConfig
	var ports []int
	var held []net.Listener // until all are found, so that none is found twice
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
		l, err := lc.Listen(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		held = append(held, l)
		ports = append(ports, port)
	}
	return nil, errors.New("no free loopback ports")
}
