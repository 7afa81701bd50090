package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// versions are the newest versions that a broker answers, by key; the oldest is 0 for all, which clients do not mind.
func versions() map[kmsg.Key]int16 {
	return map[kmsg.Key]int16{
		kmsg.Produce: 13, kmsg.Fetch: 16, kmsg.ListOffsets: 7, kmsg.Metadata: 12, kmsg.FindCoordinator: 4, kmsg.ListGroups: 4, kmsg.ApiVersions: 3,
		kmsg.CreateTopics: 7, kmsg.InitProducerID: 4, kmsg.AddPartitionsToTxn: 3, kmsg.EndTxn: 3, kmsg.DescribeConfigs: 4, kmsg.DescribeCluster: 0,
		kmsg.OffsetFetch: 8, kmsg.JoinGroup: 9, kmsg.SyncGroup: 5, kmsg.Heartbeat: 4, kmsg.LeaveGroup: 5, kmsg.DescribeGroups: 5,
	}
}

// listen starts the brokers of the cluster, and returns their addresses.
func (c *cluster) listen(ctx context.Context, brokers int, all *errgroup.Group) (list []string, err error) {
	for id := range int32(brokers) {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		at := l.Addr().(*net.TCPAddr)
		c.nodes = append(c.nodes, node{at.IP.String(), int32(at.Port)})
		list = append(list, at.String())
		all.Go(func() error {
			for {
				conn, err := l.Accept()
				if err != nil {
					return err
				}
				all.Go(func() error {
					defer func() { _ = conn.Close() }()
					if err := c.serve(conn); !errors.Is(err, io.EOF) {
						fmt.Println(c.id, id, err)
					}
					return nil
				})
			}
		})
	}
	for _, t := range c.topics {
		for n, p := range t.partitions {
			p.leader = int32((int(t.id[0]) + n) % brokers)
		}
	}
	return list, nil
}

// serve answers the requests of a connection, one after the other, until it is closed.
func (c *cluster) serve(conn net.Conn) error {
	in := bufio.NewReader(conn)
	for {
		var size [4]byte
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return err
		}
		frame := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(in, frame); err != nil {
			return err
		}
		reader := kbin.Reader{Src: frame}
		key, version, correlation := reader.Int16(), reader.Int16(), reader.Int32()
		reader.NullableString()
		request := kmsg.RequestForKey(key)
		if request == nil {
			return fmt.Errorf("request with key %d", key)
		}
		request.SetVersion(version)
		if request.IsFlexible() {
			kmsg.SkipTags(&reader)
		}
		if err := request.ReadFrom(reader.Src); err != nil {
			return fmt.Errorf("%s: %w", kmsg.Key(key).Name(), err)
		}
		response := c.handle(request)
		if response == nil {
			return fmt.Errorf("%s: not known here", kmsg.Key(key).Name())
		}
		out := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(correlation))
		if response.IsFlexible() && kmsg.Key(key) != kmsg.ApiVersions {
			out = append(out, 0)
		}
		out = response.AppendTo(out)
		binary.BigEndian.PutUint32(out, uint32(len(out)-4))
		if _, err := conn.Write(out); err != nil {
			return err
		}
	}
}

// handle answers a request, nil if the broker does not know it.
func (c *cluster) handle(request kmsg.Request) kmsg.Response {
	switch request := request.(type) {
	case *kmsg.ApiVersionsRequest:
		response := request.ResponseKind().(*kmsg.ApiVersionsResponse)
		for key, newest := range versions() {
			k := kmsg.NewApiVersionsResponseApiKey()
			k.ApiKey, k.MaxVersion = int16(key), newest
			response.ApiKeys = append(response.ApiKeys, k)
		}
		return response
	case *kmsg.MetadataRequest:
		return c.metadata(request)
	case *kmsg.FetchRequest:
		return c.fetch(request)
	case *kmsg.ProduceRequest:
		return c.produce(request)
	case *kmsg.ListOffsetsRequest:
		return c.listOffsets(request)
	case *kmsg.CreateTopicsRequest:
		return c.createTopics(request)
	case *kmsg.DescribeConfigsRequest:
		return c.describeConfigs(request)
	case *kmsg.FindCoordinatorRequest:
		return c.findCoordinator(request)
	case *kmsg.InitProducerIDRequest:
		return c.initProducer(request)
	case *kmsg.AddPartitionsToTxnRequest:
		return c.addPartitions(request)
	case *kmsg.EndTxnRequest:
		return c.endTransaction(request)
	case *kmsg.DescribeClusterRequest:
		response := request.ResponseKind().(*kmsg.DescribeClusterResponse)
		response.ClusterID, response.ControllerID = c.id, 0
		return response
	}
	return c.groups.handle(request)
}
