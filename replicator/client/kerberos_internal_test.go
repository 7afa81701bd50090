package client

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/keytab"

	"github.com/milena-kafka/milena/config"
)

// With a real KDC and real brokers, see e2e. Here is what goes wrong before a KDC answers.
func TestGSSAPI_saysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		writeFile(t, filepath.Join(dir, name), content)
		return filepath.Join(dir, name)
	}
	keys := keytab.New()
	if err := keys.AddEntry("milena", "TEST", "s3cr3t", time.Now(), 1, 18); err != nil {
		t.Fatal(err)
	}
	written, err := keys.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	conf := func(name, kdc string) string {
		return file(name, fmt.Sprintf("[libdefaults]\n default_realm = TEST\n dns_lookup_kdc = false\n[realms]\n TEST = {\n  kdc = %s\n }\n", kdc))
	}
	down, hangs := conf("down", "127.0.0.1:1"), conf("hangs", listenRaw(t, func(net.Conn) {}))
	table, garbage := file("keytab", string(written)), file("garbage", "none")
	for name, test := range map[string]struct {
		config config.Kerberos
		want   string
	}{
		"no krb5.conf": {config.Kerberos{Principal: "milena", Keytab: table, Krb5Conf: "/nowhere"}, "sasl.kerberos.krb5_conf: /nowhere cannot be used: "},
		"no keytab":    {config.Kerberos{Principal: "milena", Keytab: "/nowhere", Krb5Conf: down}, "sasl.kerberos.keytab: /nowhere cannot be used: "},
		"bad keytab":   {config.Kerberos{Principal: "milena", Keytab: garbage, Krb5Conf: down}, "sasl.kerberos.keytab: " + garbage + " cannot be used: "},
		"no cache":     {config.Kerberos{TicketCache: "/nowhere", Krb5Conf: down}, "sasl.kerberos.ticket_cache: /nowhere cannot be used: "},
		"bad cache":    {config.Kerberos{TicketCache: garbage, Krb5Conf: down}, "sasl.kerberos.ticket_cache: " + garbage + " cannot be used: "},
		"no KDC":       {config.Kerberos{Principal: "milena", Keytab: table, Krb5Conf: down}, "sasl.kerberos: no KDC of TEST can be reached or gives a ticket ("},
		"no answer":    {config.Kerberos{Principal: "milena@TEST", Keytab: table, Krb5Conf: hangs}, "sasl.kerberos: no KDC of TEST gives an answer within 200ms; check"},
		"other realm":  {config.Kerberos{Principal: "milena@OTHER", Keytab: table, Krb5Conf: down}, "sasl.kerberos: "},
	} {
		t.Run(name, func(t *testing.T) {
			test.config.ServiceName = "kafka"
			_, _, err := gssapi{test.config, 200 * time.Millisecond}.Authenticate(t.Context(), "broker:9092")
			if _, ok := errors.AsType[*loginError](err); !ok || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("err = %v\nwant %s", err, test.want)
			}
		})
	}
}
