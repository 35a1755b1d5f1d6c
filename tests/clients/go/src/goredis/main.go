// go-redis as programs use it; Debian's is an old one, which is in use all the same.
package main

import (
	"checks"
	"strconv"
	"time"

	redis "gopkg.in/redis.v5"
)

func connect() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: checks.Address, ReadTimeout: checks.Patience, MaxRetries: 1})
}

var cache = connect()

func types() {
	checks.Must(cache.Ping().Err())
	checks.Must(cache.Set("greeting", "hello", time.Minute).Err())
	text, err := cache.Get("greeting").Result()
	checks.Must(err)
	checks.Equal(text, "hello")
	checks.Equal(cache.Get("none").Err(), redis.Nil)
	checks.Must(cache.HMSet("hash", map[string]string{"a": "1", "b": "2"}).Err())
	hash, err := cache.HGetAll("hash").Result()
	checks.Must(err)
	checks.Equal(hash, map[string]string{"a": "1", "b": "2"})
	checks.Must(cache.ZAdd("scores", redis.Z{Score: 1, Member: "one"}, redis.Z{Score: 2.5, Member: "two"}).Err())
	scores, err := cache.ZRangeWithScores("scores", 0, -1).Result()
	checks.Must(err)
	checks.Equal(scores, []redis.Z{{Score: 1, Member: "one"}, {Score: 2.5, Member: "two"}})
}

func pipelinesAnswerInOrder() {
	replies, err := cache.Pipelined(func(pipe *redis.Pipeline) error {
		for n := 0; n < 500; n++ {
			pipe.Set("p"+strconv.Itoa(n), n, 0)
			pipe.Get("p" + strconv.Itoa(n))
		}
		return nil
	})
	checks.Must(err)
	for n := 0; n < 500; n++ {
		checks.Equal(replies[2*n+1].(*redis.StringCmd).Val(), strconv.Itoa(n))
	}
}

func transactions() {
	replies, err := cache.TxPipelined(func(pipe *redis.Pipeline) error {
		pipe.Set("{t}a", 1, 0)
		pipe.Incr("{t}a")
		return nil
	})
	checks.Must(err)
	checks.Equal(replies[1].(*redis.IntCmd).Val(), int64(2))
	other := connect()
	defer other.Close()
	overtaken := cache.Watch(func(tx *redis.Tx) error {
		checks.Must(other.Set("{t}a", 9, 0).Err())
		_, err := tx.Pipelined(func(pipe *redis.Pipeline) error {
			pipe.Get("{t}a")
			return nil
		})
		return err
	}, "{t}a")
	checks.Equal(overtaken, redis.TxFailedErr)
}

func scripts() {
	double := redis.NewScript("return ARGV[1] * 2")
	for _, key := range []string{"k", "k2", "k3"} {
		got, err := double.Run(cache, []string{key}, 21).Result()
		checks.Must(err)
		checks.Equal(got, int64(42))
	}
}

func keysAreOnEveryServer() {
	var pairs []interface{}
	var names []string
	for n := 0; n < 300; n++ {
		names = append(names, "m"+strconv.Itoa(n))
		pairs = append(pairs, names[n], n)
	}
	checks.Must(cache.MSet(pairs...).Err())
	checks.Spread()
	values, err := cache.MGet(names...).Result()
	checks.Must(err)
	for n, value := range values {
		checks.Equal(value, strconv.Itoa(n))
	}
	found := map[string]bool{}
	all := cache.Scan(0, "m*", 50).Iterator()
	for all.Next() {
		found[all.Val()] = true
	}
	checks.Must(all.Err())
	checks.Equal(len(found), 300)
	gone, err := cache.Del(names...).Result()
	checks.Must(err)
	checks.Equal(gone, int64(300))
}

func messagesArePublished() {
	subscriber, err := cache.Subscribe("news")
	checks.Must(err)
	defer subscriber.Close()
	checks.Must(subscriber.PSubscribe("n*"))
	checks.Eventually("subscriptions", func() bool { return cache.Publish("news", "begin").Val() == 2 })
	checks.Equal(cache.Publish("news", "hello").Val(), int64(2))
	heard := 0
	for heard < 2 {
		message, err := subscriber.ReceiveMessage()
		checks.Must(err)
		if message.Payload == "hello" {
			heard++
		}
	}
}

func blockingPops() {
	checks.Equal(cache.BLPop(time.Second, "empty").Err(), redis.Nil)
	go func() {
		time.Sleep(50 * time.Millisecond)
		cache.RPush("wait", "now")
	}()
	got, err := cache.BLPop(checks.Patience, "wait").Result()
	checks.Must(err)
	checks.Equal(got, []string{"wait", "now"})
}

func errorsLeaveTheConnectionUsable() {
	checks.Must(cache.Set("text", "x", 0).Err())
	checks.Fails(cache.LPush("text", "y").Err(), "WRONGTYPE")
	checks.Equal(cache.Get("text").Val(), "x")
}

func aServerIsLostAndComesBack() {
	subscriber, err := cache.Subscribe("after")
	checks.Must(err)
	defer subscriber.Close()
	checks.Eventually("the subscription", func() bool { return cache.Publish("after", "before").Val() == 1 })
	checks.Ask("kill")
	lost := 0
	for n := 0; n < 60; n++ {
		if err := cache.Get("back" + strconv.Itoa(n)).Err(); err != nil && err != redis.Nil {
			lost++
		}
	}
	checks.Lost(lost)
	checks.Ask("start")
	for n := 0; n < 60; n++ {
		checks.Eventually("a key", func() bool { return cache.Set("back"+strconv.Itoa(n), "after", 0).Err() == nil })
	}
	checks.Eventually("the subscription's return", func() bool {
		cache.Publish("after", "again")
		message, err := subscriber.ReceiveTimeout(100 * time.Millisecond)
		heard, isMessage := message.(*redis.Message)
		return err == nil && isMessage && heard.Payload == "again"
	})
}

func main() {
	checks.Run("go-redis", version, []checks.Check{
		{"types", types}, {"pipelines_answer_in_order", pipelinesAnswerInOrder}, {"transactions", transactions},
		{"scripts", scripts}, {"keys_are_on_every_server", keysAreOnEveryServer},
		{"messages_are_published", messagesArePublished}, {"blocking_pops", blockingPops},
		{"errors_leave_the_connection_usable", errorsLeaveTheConnectionUsable},
		{"a_server_is_lost_and_comes_back", aServerIsLostAndComesBack},
	})
}

// Set by the build, to that of Debian's package.
var version = "unknown"
