package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/milena-kafka/milena/config"
)

// mskIAM is AWS_MSK_IAM, the login of Amazon MSK: a signed request that is never sent to AWS but to the broker. The mechanism of franz-go takes the
// region of a broker that has a name of its own from the environment only, so the SDK signs here.
type mskIAM struct {
	config config.AWS

	mu     sync.Mutex
	loaded *aws.Config // nil until the first login, and again after one with credentials that do not expire
}

// Name implements sasl.Mechanism.
func (*mskIAM) Name() string { return config.MechanismMSKIAM }

// Authenticate implements sasl.Mechanism.
func (m *mskIAM) Authenticate(ctx context.Context, address string) (sasl.Session, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	host, _, err := net.SplitHostPort(address)
	if err := errors.Join(err, ctx.Err()); err != nil { // the SDK may answer although ctx has ended
		return nil, nil, err
	}
	loaded, err := m.load(ctx, regionOf(host))
	if err != nil {
		return nil, nil, err
	}
	credentials, err := loaded.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, nil, m.credentialsError(err)
	}
	if !credentials.CanExpire {
		m.forget() // those of a file or the environment; a file may be changed
	}
	region := regionOf(host)
	if region == "" {
		region = loaded.Region
	}
	if region == "" {
		return nil, nil, &loginError{text: fmt.Sprintf("sasl.aws.region: the name %s of the broker has no region of AWS; set region, or the environment variable AWS_REGION", host)}
	}
	message, err := signConnect(ctx, credentials, host, region, time.Now())
	return mskSession{}, message, err
}

// load reads the environment and the files of AWS, and nothing from the network.
func (m *mskIAM) load(ctx context.Context, regionOfBroker string) (*aws.Config, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.loaded != nil {
		return m.loaded, nil
	}
	loaded, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRegion(m.config.Region), awsconfig.WithSharedConfigProfile(m.config.Profile))
	if err != nil {
		return nil, &loginError{text: fmt.Sprintf("sasl.aws: %s; check sasl.aws.profile, and the files of AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE", oneLine(err.Error()))}
	}
	if loaded.Region == "" {
		loaded.Region = regionOfBroker
	}
	if m.config.RoleARN != "" {
		role := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(loaded), m.config.RoleARN, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = "milena"
			if m.config.RoleSessionName != "" {
				o.RoleSessionName = m.config.RoleSessionName
			}
		})
		// A session at the broker ends with the credentials (KIP-368), so they have to last for a while.
		loaded.Credentials = aws.NewCredentialsCache(role, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = time.Minute })
	}
	m.loaded = &loaded
	return m.loaded, nil
}

// forget makes the next login read the files of AWS again.
func (m *mskIAM) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loaded = nil
}

func (m *mskIAM) credentialsError(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	reason := oneLine(err.Error())
	if m.config.RoleARN != "" {
		return &loginError{text: fmt.Sprintf("sasl.aws.role_arn: the role %s cannot be assumed: %s; check that the trust policy of the role names milena's own identity", m.config.RoleARN, reason)}
	}
	return &loginError{text: fmt.Sprintf("sasl.aws: there are no credentials: %s; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or sasl.aws.profile, or give milena a role (IRSA, pod identity, instance profile)", reason)}
}

// mskName is the name that MSK gives to brokers, such as b-1.orders.abc123.c2.kafka.eu-west-1.amazonaws.com. Other names of AWS, such as those of
// endpoints in a VPC, have no region where one would look for it.
var mskName = regexp.MustCompile(`\.kafka(?:-serverless)?\.([a-z]{2}[a-z0-9-]+)\.[a-z.]+$`)

// regionOf returns the region in the name of a broker, or "".
func regionOf(host string) string {
	if found := mskName.FindStringSubmatch(host); found != nil {
		return found[1]
	}
	return ""
}

// signConnect returns what a broker of MSK verifies: the parameters of a signed request kafka-cluster:Connect, in lower case, as JSON.
func signConnect(ctx context.Context, credentials aws.Credentials, host, region string, now time.Time) ([]byte, error) {
	const service, lifetime = "kafka-cluster", "300" // seconds
	query := url.Values{"Action": {service + ":Connect"}, "X-Amz-Expires": {lifetime}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/?"+query.Encode(), http.NoBody)
	if err != nil {
		return nil, err
	}
	empty := sha256.Sum256(nil)
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, credentials, request, hex.EncodeToString(empty[:]), service, region, now)
	if err != nil {
		return nil, fmt.Errorf("sign the login: %w", err)
	}
	parsed, err := url.Parse(signed)
	if err != nil {
		return nil, fmt.Errorf("sign the login: %w", err)
	}
	fields := map[string]string{"version": "2020_10_22", "host": host, "user-agent": "milena"}
	for key, values := range parsed.Query() {
		fields[strings.ToLower(key)] = values[0]
	}
	return json.Marshal(fields)
}

type mskSession struct{}

// Challenge implements sasl.Session. A broker answers with its version and a request id, or with an error code.
func (mskSession) Challenge(response []byte) (bool, []byte, error) {
	if len(response) == 0 {
		return false, nil, errors.New("the broker answers AWS_MSK_IAM with nothing")
	}
	return true, nil, nil
}
