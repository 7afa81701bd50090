package kafka

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/proxy"
)

// Sites makes a stretch cluster: brokers at two sites, with one line between the sites. What brokers and controllers of one site send to those of the
// other goes through proxies, and so does what clients of one site send to brokers of the other. What stays at a site needs no proxy.
//
// Brokers advertise names instead of addresses to each other. Each has a hosts file of its own, in which the names of its site are its neighbours' own
// addresses, and the others those of their proxies.
type Sites struct {
	// First are the brokers of the first site; all others are at the second one.
	First []int
	// Voters are the brokers that are controllers too. Other controllers there are none.
	Voters []int
}

// sitePorts are those of a broker: for brokers, for controllers, and for the clients at each site.
const sitePorts = 4

const (
	neighbourIP = "127.0.0.1"
	acrossIP    = "127.0.0.2" // of the proxies between sites, which listen at the ports of their brokers
)

// site is 0 or 1.
func (s *Sites) site(broker int) int {
	if slices.Contains(s.First, broker) {
		return 0
	}
	return 1
}

func hostName(broker int) string { return fmt.Sprintf("broker-%d", broker) }

// sitesOf returns the ports of a broker that are for Sites.
func (o Options) sitesOf(ports []int, broker int) []int {
	n := portsPerBroker(o)
	return ports[1+n*broker-sitePorts : 1+n*broker]
}

// siteVoters is controller.quorum.voters.
func (o Options) siteVoters(ports []int) string {
	var voters []string
	for _, v := range o.Sites.Voters {
		voters = append(voters, fmt.Sprintf("%d@%s:%d", v, hostName(v), o.sitesOf(ports, v)[1]))
	}
	return strings.Join(voters, ",")
}

// settle gives a broker its place at a site: listeners, proxies and a hosts file. It returns the listeners to add to listeners and to
// advertised.listeners.
func (b *Broker) settle(ctx context.Context, ports []int, o Options) (listeners, advertised []string, err error) {
	s := o.Sites
	b.jvm = []string{"-Djdk.net.hosts.file=" + filepath.Join(b.dir, "hosts")}
	if err := b.writeHosts(o); err != nil {
		return nil, nil, err
	}
	internal := []string{"SITES"}
	if slices.Contains(s.Voters, b.id) {
		internal = append(internal, "CONTROLLER")
	}
	for i, name := range internal {
		listeners = append(listeners, fmt.Sprintf("%s://%s:%d", name, neighbourIP, ports[i]))
		advertised = append(advertised, fmt.Sprintf("%s://%s:%d", name, hostName(b.id), ports[i]))
		across, err := proxy.Start(ctx, fmt.Sprintf("%s:%d", acrossIP, ports[i]), fmt.Sprintf("%s:%d", neighbourIP, ports[i]))
		if err != nil {
			return nil, nil, err
		}
		b.across = append(b.across, across)
	}
	for site := range 2 {
		port := ports[2+site]
		ip := neighbourIP
		if site != s.site(b.id) {
			ip = acrossIP
			across, err := proxy.Start(ctx, fmt.Sprintf("%s:%d", acrossIP, port), fmt.Sprintf("%s:%d", neighbourIP, port))
			if err != nil {
				return nil, nil, err
			}
			b.across = append(b.across, across)
		}
		b.siteAddrs[site] = fmt.Sprintf("%s:%d", ip, port)
		listeners = append(listeners, fmt.Sprintf("SITE%d://%s:%d", site, neighbourIP, port))
		advertised = append(advertised, fmt.Sprintf("SITE%d://%s", site, b.siteAddrs[site]))
	}
	return listeners, advertised, nil
}

// writeHosts writes the hosts file of a broker.
func (b *Broker) writeHosts(o Options) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s localhost %s\n", neighbourIP, host)
	for id := 1; id <= o.Brokers; id++ {
		ip := neighbourIP
		if o.Sites.site(id) != o.Sites.site(b.id) {
			ip = acrossIP
		}
		fmt.Fprintf(&text, "%s %s\n", ip, hostName(id))
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.dir, "hosts"), []byte(text.String()), 0o644)
}

// siteProtocols is added to protocols.
func siteProtocols(s *Sites) string {
	if s == nil {
		return ""
	}
	return ",SITES:PLAINTEXT,SITE0:PLAINTEXT,SITE1:PLAINTEXT"
}

// SiteAddrs are the addresses of the brokers for clients at a site, 0 or 1.
func (c *Cluster) SiteAddrs(site int) []string {
	return c.addrs(func(b *Broker) string { return b.siteAddrs[site] })
}

// SiteClient connects to the cluster from a site, 0 or 1.
func (c *Cluster) SiteClient(site int, opts ...kgo.Opt) (*kgo.Client, error) {
	return c.Client(append([]kgo.Opt{kgo.SeedBrokers(c.SiteAddrs(site)...)}, opts...)...)
}

// Between sets the mode of the line between the sites.
func (c *Cluster) Between(ctx context.Context, mode proxy.Mode) error {
	for _, b := range c.brokers {
		for _, p := range b.across {
			if err := p.Set(ctx, mode); err != nil {
				return err
			}
		}
	}
	return nil
}

// SiteAdmin calls do with an admin client of the cluster at a site.
func (c *Cluster) SiteAdmin(site int, do func(*kadm.Client) error) error {
	cl, err := c.SiteClient(site)
	if err != nil {
		return err
	}
	defer cl.Close()
	return do(kadm.NewClient(cl))
}
