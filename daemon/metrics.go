package daemon

import (
	"context"
	"errors"
	"net"
	"net/http"
	"reflect"
	"strings"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"scn.alt/scn/daemon/control"
)

// collector turns the layers' snapshot structs into Prometheus metrics: a uint64
// field is a counter, any other number a gauge, durations are seconds. The name is
// scn_<layer>_<field>.
type collector struct {
	layers map[string]func() any
}

// Describe implements prometheus.Collector. It sends nothing: the snapshots say
// what there is.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for layer, snapshot := range c.layers {
		v := snapshot()
		collectStruct(ch, "scn_"+layer, reflect.ValueOf(v))
		if m, ok := v.(interface{ Refusals() map[string]uint64 }); ok {
			desc := prometheus.NewDesc("scn_"+layer+"_refusals_total", "Refusals by cause.", []string{"cause"}, nil)
			for cause, n := range m.Refusals() {
				ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), cause)
			}
		}
	}
}

func collectStruct(ch chan<- prometheus.Metric, prefix string, v reflect.Value) {
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		if !field.IsExported() {
			continue
		}
		name, kind, number := prefix+"_"+snakeCase(field.Name), prometheus.GaugeValue, 0.0
		switch {
		case value.Type() == reflect.TypeFor[time.Duration]():
			name, number = name+"_seconds", time.Duration(value.Int()).Seconds()
		case value.Kind() == reflect.Struct:
			collectStruct(ch, name, value)
			continue
		case value.Kind() == reflect.Uint64:
			name, kind, number = name+"_total", prometheus.CounterValue, float64(value.Uint())
		case value.CanInt():
			number = float64(value.Int())
		case value.CanUint():
			number = float64(value.Uint())
		case value.CanFloat():
			number = value.Float()
		case value.Kind() == reflect.Bool:
			if value.Bool() {
				number = 1
			}
		default:
			continue
		}
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, field.Name+" of the "+prefix+" layer.", nil, nil), kind, number)
	}
}

// snakeCase writes BytesSent as bytes_sent and RTTMax as rtt_max.
func snakeCase(s string) string {
	var b strings.Builder
	runes := []rune(s)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// serveMetrics answers /metrics on l until ctx ends.
func serveMetrics(ctx context.Context, l net.Listener, layers map[string]func() any) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{layers})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return serveHTTP(ctx, l, mux)
}

// serveHTTP runs an HTTP server until ctx ends, and waits for its handlers' end.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: control.ConnContext,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); ctx.Err() == nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
