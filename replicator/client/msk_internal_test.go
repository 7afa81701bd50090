package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/sasl"
	franzaws "github.com/twmb/franz-go/pkg/sasl/aws"

	"github.com/milena-kafka/milena/config"
)

const mskBroker = "b-1.orders.abc123.c2.kafka.eu-west-1.amazonaws.com:9098"

// awsEnvironment hides what the machine says about AWS and sets these variables.
func awsEnvironment(t *testing.T, variables map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{
		"AWS_CONFIG_FILE": filepath.Join(dir, "config"), "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(dir, "credentials"),
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "", "AWS_MAX_ATTEMPTS": "1",
	}
	for name, value := range variables {
		all[name] = strings.ReplaceAll(value, "DIR", dir)
	}
	for name, value := range all {
		t.Setenv(name, value)
	}
	return dir
}

// mskLogin returns the fields of the login at a broker.
func mskLogin(t *testing.T, m sasl.Mechanism, address string) (map[string]string, error) {
	t.Helper()
	_, message, err := m.Authenticate(t.Context(), address)
	if err != nil {
		return nil, err
	}
	var fields map[string]string
	if err := json.Unmarshal(message, &fields); err != nil {
		t.Fatalf("%v: %s", err, message)
	}
	return fields, nil
}

// The login is what franz-go's own implementation of the signature gives for the same credentials and second.
func TestMSK_signsAsAnotherImplementation(t *testing.T) {
	for name, test := range map[string]struct {
		broker, token string
		config        config.AWS
		region        string
	}{
		"a name of MSK":                       {mskBroker, "", config.AWS{}, "eu-west-1"},
		"a name of MSK, with a session token": {mskBroker, "se/ss+ion==", config.AWS{}, "eu-west-1"},
		"serverless":                          {"boot-x1.c1.kafka-serverless.us-gov-west-1.amazonaws.com:9098", "", config.AWS{}, "us-gov-west-1"},
		"China":                               {"b-1.x.abc.c1.kafka.cn-north-1.amazonaws.com.cn:9098", "", config.AWS{}, "cn-north-1"},
		"the name wins over the key":          {mskBroker, "", config.AWS{Region: "us-east-2"}, "eu-west-1"},
		"a name of one's own":                 {"kafka.example:9098", "", config.AWS{Region: "ap-south-1"}, "ap-south-1"},
	} {
		t.Run(name, func(t *testing.T) {
			awsEnvironment(t, map[string]string{"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "s3cr3t+/x", "AWS_SESSION_TOKEN": test.token})
			var ours, theirs map[string]string
			for range 5 { // both take the time themselves
				var err error
				if ours, err = mskLogin(t, &mskIAM{config: test.config}, test.broker); err != nil {
					t.Fatal(err)
				}
				t.Setenv("AWS_REGION", test.region) // for names without a region
				other := franzaws.Auth{AccessKey: "AKIDEXAMPLE", SecretKey: "s3cr3t+/x", SessionToken: test.token, UserAgent: "milena"}.AsManagedStreamingIAMMechanism()
				if theirs, err = mskLogin(t, other, test.broker); err != nil {
					t.Fatal(err)
				}
				t.Setenv("AWS_REGION", "")
				if ours["x-amz-date"] == theirs["x-amz-date"] {
					break
				}
			}
			if diff := cmp.Diff(theirs, ours); diff != "" {
				t.Errorf("-franz-go +milena\n%s", diff)
			}
			if !strings.Contains(ours["x-amz-credential"], "/"+test.region+"/kafka-cluster/aws4_request") {
				t.Errorf("credential scope %s", ours["x-amz-credential"])
			}
		})
	}
}

// awsAPI answers as STS and as the agent of a pod identity do, with keys 1, 2, 3 and so on that expire.
type awsAPI struct {
	*httptest.Server
	asked  atomic.Int64
	lasts  time.Duration
	asForm chan string
}

func newAWSAPI(t *testing.T) *awsAPI {
	t.Helper()
	a := &awsAPI{lasts: time.Hour, asForm: make(chan string, 100)}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *awsAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	a.asForm <- r.Form.Encode()
	key, expires := fmt.Sprintf("KEY%d", a.asked.Add(1)), time.Now().Add(a.lasts).UTC().Format(time.RFC3339)
	if r.URL.Path == "/pod" {
		if r.Header.Get("Authorization") != "pod-token" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = fmt.Fprintf(w, `{"AccessKeyId":%q,"SecretAccessKey":"x","Token":"t","Expiration":%q}`, key, expires)
		return
	}
	if strings.Contains(r.Form.Get("RoleArn"), "forbidden") {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized to perform sts:AssumeRole</Message></Error></ErrorResponse>`))
		return
	}
	action := r.Form.Get("Action")
	_, _ = fmt.Fprintf(w, `<%[1]sResponse><%[1]sResult><Credentials><AccessKeyId>%[2]s</AccessKeyId><SecretAccessKey>x</SecretAccessKey>`+
		`<SessionToken>t</SessionToken><Expiration>%[3]s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`, action, key, expires)
}

func TestMSK_findsCredentialsWhereTheSDKDoes(t *testing.T) {
	api := newAWSAPI(t)
	sts := map[string]string{"AWS_ENDPOINT_URL_STS": api.URL}
	with := func(more map[string]string) map[string]string {
		for name, value := range sts {
			more[name] = value
		}
		return more
	}
	keys := map[string]string{"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "s3cr3t"}
	for name, test := range map[string]struct {
		config    config.AWS
		variables map[string]string
		files     map[string]string
		want      string // the beginning of the key
		asked     string // a part of the form that the service gets
	}{
		"environment": {config.AWS{}, keys, nil, "AKIDENV/", ""},
		"profile": {
			config.AWS{Profile: "kafka"}, nil, map[string]string{"credentials": "[kafka]\naws_access_key_id=AKIDFILE\naws_secret_access_key=s3cr3t\n"}, "AKIDFILE/", "",
		},
		"web identity": {
			config.AWS{},
			with(map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": "DIR/token", "AWS_ROLE_ARN": "arn:aws:iam::1:role/irsa"}),
			map[string]string{"token": "the-token"},
			"KEY", "WebIdentityToken=the-token",
		},
		"pod identity": {
			config.AWS{},
			map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": api.URL + "/pod", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "DIR/token"},
			map[string]string{"token": "pod-token"},
			"KEY", "",
		},
		"role": {
			config.AWS{RoleARN: "arn:aws:iam::1:role/kafka", RoleSessionName: "dr"},
			with(map[string]string{"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "s3cr3t"}),
			nil, "KEY", "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fkafka&RoleSessionName=dr",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := awsEnvironment(t, test.variables)
			for file, content := range test.files {
				writeFile(t, filepath.Join(dir, file), content)
			}
			m := &mskIAM{config: test.config}
			first, err := mskLogin(t, m, mskBroker)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(first["x-amz-credential"], test.want) {
				t.Errorf("credential %s, want %s", first["x-amz-credential"], test.want)
			}
			if test.asked != "" {
				if form := <-api.asForm; !strings.Contains(form, test.asked) {
					t.Errorf("the service is asked for %s", form)
				}
			}
			// What expires is kept until then.
			before := api.asked.Load()
			if _, err := mskLogin(t, m, mskBroker); err != nil || api.asked.Load() != before {
				t.Errorf("%d more requests, %v", api.asked.Load()-before, err)
			}
			for len(api.asForm) > 0 {
				<-api.asForm
			}
		})
	}
}

// Keys in a file are read again at each login.
func TestMSK_readsTheFileAgain(t *testing.T) {
	dir := awsEnvironment(t, nil)
	m := &mskIAM{}
	for _, key := range []string{"AKIDONE", "AKIDTWO"} {
		writeFile(t, filepath.Join(dir, "credentials"), "[default]\naws_access_key_id="+key+"\naws_secret_access_key=s3cr3t\n")
		if fields, err := mskLogin(t, m, mskBroker); err != nil || !strings.HasPrefix(fields["x-amz-credential"], key+"/") {
			t.Errorf("%s, %v; want %s", fields["x-amz-credential"], err, key)
		}
	}
}

func TestMSK_saysWhatIsWrong(t *testing.T) {
	api := newAWSAPI(t)
	keys := map[string]string{"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "s3cr3t", "AWS_ENDPOINT_URL_STS": api.URL}
	for name, test := range map[string]struct {
		config    config.AWS
		variables map[string]string
		broker    string
		want      []string
	}{
		"no credentials": {config.AWS{}, nil, mskBroker, []string{"sasl.aws: there are no credentials: ", "; set AWS_ACCESS_KEY_ID"}},
		"no profile":     {config.AWS{Profile: "kafka"}, nil, mskBroker, []string{"sasl.aws: ", "kafka", "; check sasl.aws.profile"}},
		"no region":      {config.AWS{}, keys, "kafka.example:9098", []string{"sasl.aws.region: the name kafka.example of the broker has no region of AWS; set region"}},
		"role": {
			config.AWS{RoleARN: "arn:aws:iam::1:role/forbidden"},
			keys, mskBroker,
			[]string{"sasl.aws.role_arn: the role arn:aws:iam::1:role/forbidden cannot be assumed: ", "not authorized to perform sts:AssumeRole", "; check that the trust policy"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			awsEnvironment(t, test.variables)
			_, err := mskLogin(t, &mskIAM{config: test.config}, test.broker)
			if err == nil {
				t.Fatal("no error")
			}
			err = Explain(err, "dr", config.Cluster{Brokers: []string{test.broker}})
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q:\n%v", want, err)
				}
			}
			if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("err = %v", err)
			}
		})
	}
	t.Run("stopping", func(t *testing.T) {
		awsEnvironment(t, keys)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := (&mskIAM{config: config.AWS{RoleARN: "arn:aws:iam::1:role/kafka"}}).Authenticate(ctx, mskBroker); err == nil {
			t.Error("no error")
		}
	})
}

func TestMSK_wantsAnAnswer(t *testing.T) {
	if done, more, err := (mskSession{}).Challenge([]byte(`{"version":"2020_10_22"}`)); !done || more != nil || err != nil {
		t.Errorf("%v, %q, %v", done, more, err)
	}
	if _, _, err := (mskSession{}).Challenge(nil); err == nil {
		t.Error("no answer is taken for a success")
	}
}
