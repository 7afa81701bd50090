package offsets_test

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
)

// The cluster primary is lost, its topics are on dr. Where does the group continue on dr?
func Example() {
	ctx := context.Background()
	dr, err := offsets.Open(ctx, offsets.Options{Kafka: []kgo.Opt{kgo.SeedBrokers("localhost:9192")}})
	if err != nil {
		panic(err)
	}
	defer dr.Close()
	positions, err := dr.Group(ctx, "primary", "billing")
	if err != nil {
		fmt.Println(err)
	}
	for _, p := range positions {
		fmt.Printf("%s-%d: %d there, %d here (exact %t, by %s), %d to go\n",
			p.TargetTopic, p.Partition, p.Source, p.Target, p.Exact, p.Origin, p.Lag)
	}
}
