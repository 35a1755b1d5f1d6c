// Redigo as programs use it.
package main

import (
	"checks"
	"fmt"
	"strconv"
	"time"

	"github.com/gomodule/redigo/redis"
)

func connect() redis.Conn {
	cache, err := redis.Dial("tcp", checks.Address, redis.DialReadTimeout(checks.Patience))
	checks.Must(err)
	return cache
}

var cache redis.Conn

func types() {
	text, err := redis.String(cache.Do("PING"))
	checks.Must(err)
	checks.Equal(text, "PONG")
	_, err = cache.Do("SET", "greeting", "hello", "EX", 100)
	checks.Must(err)
	text, err = redis.String(cache.Do("GET", "greeting"))
	checks.Must(err)
	checks.Equal(text, "hello")
	_, err = redis.String(cache.Do("GET", "none"))
	checks.Equal(err, redis.ErrNil)
	_, err = cache.Do("HSET", "hash", "a", 1, "b", 2)
	checks.Must(err)
	hash, err := redis.IntMap(cache.Do("HGETALL", "hash"))
	checks.Must(err)
	checks.Equal(hash, map[string]int{"a": 1, "b": 2})
	_, err = cache.Do("ZADD", "scores", 1, "one", 2.5, "two")
	checks.Must(err)
	score, err := redis.Float64(cache.Do("ZSCORE", "scores", "two"))
	checks.Must(err)
	checks.Equal(score, 2.5)
}

func aPipelineAnswersInOrder() {
	for n := 0; n < 500; n++ {
		checks.Must(cache.Send("SET", fmt.Sprintf("p%d", n), n))
		checks.Must(cache.Send("GET", fmt.Sprintf("p%d", n)))
	}
	checks.Must(cache.Flush())
	for n := 0; n < 500; n++ {
		_, err := cache.Receive()
		checks.Must(err)
		got, err := redis.Int(cache.Receive())
		checks.Must(err)
		checks.Equal(got, n)
	}
}

func transactions() {
	checks.Must(cache.Send("MULTI"))
	checks.Must(cache.Send("SET", "{t}a", 1))
	checks.Must(cache.Send("INCR", "{t}a"))
	replies, err := redis.Values(cache.Do("EXEC"))
	checks.Must(err)
	checks.Equal(replies, []interface{}{"OK", int64(2)})
	_, err = cache.Do("WATCH", "{t}a")
	checks.Must(err)
	other := connect()
	defer other.Close()
	_, err = other.Do("SET", "{t}a", 9)
	checks.Must(err)
	checks.Must(cache.Send("MULTI"))
	checks.Must(cache.Send("GET", "{t}a"))
	_, err = redis.Values(cache.Do("EXEC"))
	checks.Equal(err, redis.ErrNil)
}

func scripts() {
	double := redis.NewScript(1, "return ARGV[1] * 2")
	for _, key := range []string{"k", "k2", "k3"} {
		got, err := redis.Int(double.Do(cache, key, 21))
		checks.Must(err)
		checks.Equal(got, 42)
	}
	checks.Must(double.Load(cache))
	checks.Must(double.SendHash(cache, "k4", 4))
	checks.Must(cache.Flush())
	got, err := redis.Int(cache.Receive())
	checks.Must(err)
	checks.Equal(got, 8)
}

func keysAreOnEveryServer() {
	pairs, names := redis.Args{}, redis.Args{}
	for n := 0; n < 300; n++ {
		pairs = pairs.Add(fmt.Sprintf("m%d", n), n)
		names = names.Add(fmt.Sprintf("m%d", n))
	}
	_, err := cache.Do("MSET", pairs...)
	checks.Must(err)
	checks.Spread()
	values, err := redis.Ints(cache.Do("MGET", names...))
	checks.Must(err)
	for n, value := range values {
		checks.Equal(value, n)
	}
	found, cursor := map[string]bool{}, "0"
	for {
		reply, err := redis.Values(cache.Do("SCAN", cursor, "MATCH", "m*"))
		checks.Must(err)
		cursor, err = redis.String(reply[0], nil)
		checks.Must(err)
		some, err := redis.Strings(reply[1], nil)
		checks.Must(err)
		for _, name := range some {
			found[name] = true
		}
		if cursor == "0" {
			break
		}
	}
	checks.Equal(len(found), 300)
	gone, err := redis.Int(cache.Do("DEL", names...))
	checks.Must(err)
	checks.Equal(gone, 300)
}

func messagesArePublished() {
	subscriber := redis.PubSubConn{Conn: connect()}
	defer subscriber.Close()
	checks.Must(subscriber.Subscribe("news", "other"))
	checks.Must(subscriber.PSubscribe("n*"))
	for n := 1; n <= 3; n++ {
		checks.Equal(subscriber.Receive().(redis.Subscription).Count, n)
	}
	heard, err := redis.Int(cache.Do("PUBLISH", "news", "hello"))
	checks.Must(err)
	checks.Equal(heard, 2)
	kinds := map[string]int{}
	for n := 0; n < 2; n++ {
		message := subscriber.Receive().(redis.Message)
		checks.Equal(string(message.Data), "hello")
		kinds[message.Channel+message.Pattern]++
	}
	checks.Equal(kinds, map[string]int{"news": 1, "newsn*": 1})
	checks.Must(subscriber.Ping("x"))
	checks.Equal(subscriber.Receive(), redis.Pong{Data: "x"})
	checks.Must(subscriber.Unsubscribe())
	checks.Must(subscriber.PUnsubscribe())
	for n := 2; n >= 0; n-- {
		checks.Equal(subscriber.Receive().(redis.Subscription).Count, n)
	}
}

func blockingPops() {
	_, err := redis.Strings(cache.Do("BLPOP", "empty", "0.1"))
	checks.Equal(err, redis.ErrNil)
	go func() {
		other := connect()
		defer other.Close()
		time.Sleep(50 * time.Millisecond)
		other.Do("RPUSH", "wait", "now")
	}()
	got, err := redis.Strings(cache.Do("BLPOP", "wait", 10))
	checks.Must(err)
	checks.Equal(got, []string{"wait", "now"})
}

func errorsLeaveTheConnectionUsable() {
	cache.Do("SET", "text", "x")
	_, err := cache.Do("LPUSH", "text", "y")
	checks.Fails(err, "WRONGTYPE")
	_, err = cache.Do("NONSENSE")
	checks.Fails(err, "unknown command")
	text, err := redis.String(cache.Do("GET", "text"))
	checks.Must(err)
	checks.Equal(text, "x")
}

func aServerIsLostAndComesBack() {
	pool := redis.Pool{
		Dial:         func() (redis.Conn, error) { return redis.Dial("tcp", checks.Address, redis.DialReadTimeout(checks.Patience)) },
		TestOnBorrow: func(one redis.Conn, _ time.Time) error { _, err := one.Do("PING"); return err },
		MaxIdle:      4,
	}
	do := func(name string, arguments ...interface{}) (interface{}, error) {
		one := pool.Get()
		defer one.Close()
		return one.Do(name, arguments...)
	}
	checks.Ask("kill")
	lost := 0
	for n := 0; n < 60; n++ {
		if _, err := do("GET", "back"+strconv.Itoa(n)); err != nil {
			lost++
		}
	}
	checks.Lost(lost)
	checks.Ask("start")
	for n := 0; n < 60; n++ {
		checks.Eventually("a key", func() bool { _, err := do("SET", "back"+strconv.Itoa(n), "after"); return err == nil })
	}
	double := redis.NewScript(1, "return ARGV[1] * 2")
	one := pool.Get()
	defer one.Close()
	for n := 0; n < 60; n++ {
		got, err := redis.Int(double.Do(one, "back"+strconv.Itoa(n), 4))
		checks.Must(err)
		checks.Equal(got, 8)
	}
}

func main() {
	cache = connect()
	checks.Run("redigo", version, []checks.Check{
		{"types", types}, {"a_pipeline_answers_in_order", aPipelineAnswersInOrder}, {"transactions", transactions},
		{"scripts", scripts}, {"keys_are_on_every_server", keysAreOnEveryServer},
		{"messages_are_published", messagesArePublished}, {"blocking_pops", blockingPops},
		{"errors_leave_the_connection_usable", errorsLeaveTheConnectionUsable},
		{"a_server_is_lost_and_comes_back", aServerIsLostAndComesBack},
	})
}

// Set by the build, to that of Debian's package.
var version = "unknown"
