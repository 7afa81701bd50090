package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/proc"
)

const realm = "MILENA.TEST"

// kdc is a real KDC of MIT on loopback, with its database in a directory.
type kdc struct {
	dir, krb5Conf string
	env           []string
	process       *proc.Process
}

// startKDC skips the test where the KDC is not installed.
func startKDC(t *testing.T, dir string) *kdc {
	t.Helper()
	for _, tool := range []string{"krb5kdc", "kdb5_util", "kadmin.local", "kinit"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs a KDC: apt-get install krb5-kdc krb5-admin-server krb5-user (%v)", err)
		}
	}
	ports, err := proc.FreePorts(t.Context(), 1)
	check(t, err)
	k := &kdc{dir: dir, krb5Conf: filepath.Join(dir, "krb5.conf")}
	kdcConf := filepath.Join(dir, "kdc.conf")
	check(t, os.WriteFile(k.krb5Conf, fmt.Appendf(nil, `[libdefaults]
 default_realm = %[1]s
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_canonicalize_hostname = false
 rdns = false
[realms]
 %[1]s = {
  kdc = 127.0.0.1:%[2]d
 }
`, realm, ports[0]), 0o600))
	check(t, os.WriteFile(kdcConf, fmt.Appendf(nil, `[realms]
 %[1]s = {
  database_name = %[2]s/principal
  key_stash_file = %[2]s/stash
  kdc_listen = 127.0.0.1:%[3]d
  kdc_tcp_listen = 127.0.0.1:%[3]d
  max_life = 1h
 }
`, realm, dir, ports[0]), 0o600))
	k.env = append(os.Environ(), "KRB5_CONFIG="+k.krb5Conf, "KRB5_KDC_PROFILE="+kdcConf)
	k.run(t, "kdb5_util", "create", "-s", "-r", realm, "-P", "master")
	k.run(t, "kadmin.local", "-q", "addprinc -randkey kafka/127.0.0.1")
	k.run(t, "kadmin.local", "-q", "addprinc -randkey milena")
	k.run(t, "kadmin.local", "-q", "ktadd -k "+k.file("broker.keytab")+" kafka/127.0.0.1")
	k.run(t, "kadmin.local", "-q", "ktadd -k "+k.file("milena.keytab")+" milena")
	k.start(t)
	k.run(t, "kinit", "-k", "-t", k.file("milena.keytab"), "-c", "FILE:"+k.file("cache"), "milena")
	return k
}

func (k *kdc) file(name string) string { return filepath.Join(k.dir, name) }

func (k *kdc) run(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(within(t, 30*time.Second, name+" ends"), name, args...)
	cmd.Env = k.env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// start starts the KDC and waits until it answers.
func (k *kdc) start(t *testing.T) {
	t.Helper()
	var err error
	k.process, err = proc.Start(t.Context(), "kdc", k.file("kdc.log"), append(append([]string{"env"}, k.env[len(k.env)-2:]...), "krb5kdc", "-n", "-P", k.file("kdc.pid")))
	check(t, err)
	eventually(t, 20*time.Second, "the KDC answers", func() (bool, string) {
		cmd := exec.CommandContext(t.Context(), "kinit", "-k", "-t", k.file("milena.keytab"), "-c", "FILE:"+k.file("probe"), "milena")
		cmd.Env = k.env
		out, err := cmd.CombinedOutput()
		return err == nil, string(out)
	})
}

func TestKerberos(t *testing.T) {
	t.Parallel()
	requireKafka(t)
	k := startKDC(t, t.TempDir())
	ca, err := kafka.NewAuthority("the right authority")
	check(t, err)
	caFile := k.file("ca.pem")
	check(t, os.WriteFile(caFile, ca.PEM, 0o600))
	options := kafka.Options{Security: &kafka.Security{CA: ca, Kerberos: &kafka.Kerberos{
		Krb5Conf: k.krb5Conf, Keytab: k.file("broker.keytab"), Principal: "kafka/127.0.0.1@" + realm, Reauthenticate: 3 * time.Second,
	}}}
	p := startPair(t, options, options)
	p.createTopic("tickets", 3, 1)
	w := p.writer(load.Options{Topic: "tickets", Partitions: 3})
	config := func(source, target daemon.Map) daemon.Map {
		c := p.config("tickets")
		cluster := func(c *kafka.Cluster, login daemon.Map) daemon.Map {
			login["krb5_conf"] = k.krb5Conf
			return daemon.Map{"brokers": c.SecureAddrs(), "tls": daemon.Map{"ca_file": caFile}, "sasl": daemon.Map{"mechanism": "GSSAPI", "kerberos": login}}
		}
		c["clusters"] = daemon.Map{"source": cluster(p.source, source), "target": cluster(p.target, target)}
		return c
	}
	keytab := func(principal string) daemon.Map {
		return daemon.Map{"keytab": k.file("milena.keytab"), "principal": principal}
	}

	t.Run("every record is copied once while sessions end", func(t *testing.T) {
		p := p.in(t)
		m := p.startMilena(config(keytab("milena@"+realm), daemon.Map{"ticket_cache": k.file("cache")}))
		stream := w.Stream(t.Context(), 500)
		pause(t, 10*time.Second) // three sessions
		_, err := stream.Stop(t.Context())
		check(t, err)
		p.waitAndVerify(m, time.Minute, w.Acked(), "tickets")
		m.stop()
	})
	for _, tt := range []struct {
		name  string
		login daemon.Map
		want  string
	}{
		{"a principal that the KDC does not know", keytab("nobody@" + realm), `source.*sasl.kerberos: the KDC does not know nobody@MILENA.TEST .*; check sasl.kerberos.principal`},
		{"a principal that is not in the keytab", keytab("kafka/127.0.0.1@" + realm), `source.*sasl.kerberos.keytab: \S+ does not hold the key of kafka/127.0.0.1@MILENA.TEST .*; export it again`},
		{"a service that the KDC does not know", daemon.Map{"keytab": k.file("milena.keytab"), "principal": "milena", "service_name": "k"}, `source.*sasl.kerberos: the KDC does not know the service k/127.0.0.1 .*; check sasl.kerberos.service_name`},
		{"a keytab that is missing", daemon.Map{"keytab": "/nowhere", "principal": "milena"}, `source.*sasl.kerberos.keytab: /nowhere cannot be used`},
		{"a ticket cache that is missing", daemon.Map{"ticket_cache": "/nowhere"}, `source.*sasl.kerberos.ticket_cache: /nowhere cannot be used.*kinit -c FILE:/nowhere`},
	} {
		t.Run(tt.name, func(t *testing.T) { p.kerberosFails(t, config(tt.login, keytab("milena")), tt.want) })
	}
	t.Run("a KDC that is down", func(t *testing.T) {
		k.process.Kill()
		p.kerberosFails(t, config(keytab("milena"), keytab("milena")), `source.*sasl.kerberos: no KDC of MILENA.TEST can be reached or gives a ticket .*connection refused.*; check its addresses in `)
		k.start(t)
		code, out := p.in(t).runVerb(t, "check", config(keytab("milena"), keytab("milena")))
		if code != 0 {
			t.Errorf("check: exit code %d, want 0\n%s", code, out)
		}
	})
}

// kerberosFails runs check, which must fail with a line that matches.
func (p *pair) kerberosFails(t *testing.T, config daemon.Map, want string) {
	t.Helper()
	code, out := p.in(t).runVerb(t, "check", config)
	if code != 1 {
		t.Errorf("check: exit code %d, want 1", code)
	}
	matchLine(t, out, want)
}
